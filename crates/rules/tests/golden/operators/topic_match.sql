-- result: [{"a":true,"b":true,"c":false,"d":false,"e":true,"f":false,"g":true}]
SELECT topic =~ 't/+' AS a, topic =~ 't/#' AS b, topic =~ 'x' AS c, 5 =~ '#' AS d, 't' =~ 't/#' AS e, '$SYS/a' =~ '#' AS f, topic=~'t/1' AS g FROM "t/#"
----
-- payload: {"f":"t/+"}
-- result: [{"a":true}]
-- payload: {"f":"t/#/x"}
-- result: [{"a":false}]
-- payload: {"f":5}
-- result: [{"a":false}]
SELECT topic =~ payload.f AS a FROM "t/#"
----
-- error:
-- | error[E0104]: invalid topic filter: `#` must be the last level of a topic filter, and alone there
-- |  --> 1:17
-- |   |
-- | 1 | SELECT topic =~ 'a/#/b' AS a FROM "t/#"
-- |   |                 ^^^^^^^
SELECT topic =~ 'a/#/b' AS a FROM "t/#"
