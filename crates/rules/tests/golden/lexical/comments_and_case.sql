-- payload: {"a":1}
-- result: [{"b":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 2:23
-- |   |
-- | 2 | as b from "t/#" Where True;
-- |   |                       ^^^^
select /* the value */ payload.a -- of a
as b from "t/#" Where True;
----
-- result: [{"a":true,"b":false,"c":null,"d":null}]
SELECT TRUE AS a, false AS b, NULL AS c, Null AS d FROM "t/#"
