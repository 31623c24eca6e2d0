-- result: [{"a":true,"b":true,"c":true,"d":false,"e":true,"f":true,"g":false,"h":false,"i":false,"j":true}]
SELECT 'abc' LIKE 'a%' AS a, 'abc' LIKE '_b_' AS b, 'abc' NOT LIKE 'x%' AS c, 'ABC' LIKE 'abc' AS d, 'ABC' ILIKE 'a%c' AS e, '50%' LIKE '50!%' ESCAPE '!' AS f, '505' LIKE '50!%' ESCAPE '!' AS g, 5 LIKE '5' AS h, 5 NOT LIKE '5' AS i, 'ä' LIKE '_' AS j FROM "t/#"
----
-- payload: {"p":"c%"}
-- result: [{"a":true}]
-- payload: {"p":5}
-- failed: type: LIKE takes a pattern that is text, not an integer at 1:22, value 5
SELECT clientid LIKE payload.p AS a FROM "t/#"
----
-- error:
-- | error[E0104]: LIKE takes a pattern that is text, not an integer
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid LIKE 5 AS a FROM "t/#"
-- |   |                      ^
SELECT clientid LIKE 5 AS a FROM "t/#"
----
-- error:
-- | error[E0002]: expected one character in single quotes, found `'ab'`
-- |  --> 1:33
-- |   |
-- | 1 | SELECT clientid LIKE 'x' ESCAPE 'ab' AS a FROM "t/#"
-- |   |                                 ^^^^
SELECT clientid LIKE 'x' ESCAPE 'ab' AS a FROM "t/#"
----
-- result: [{"a":true,"b":false,"c":true,"d":false,"e":false,"f":true}]
SELECT 'abc' RLIKE 'b' AS a, 'abc' REGEXP '^b' AS b, 'abc' NOT RLIKE 'x' AS c, 5 RLIKE '5' AS d, 5 NOT RLIKE '5' AS e, 'a1' RLIKE '^\w\d$' AS f FROM "t/#"
----
-- error:
-- | error[E0104]: not a regular expression: unclosed group
-- |  --> 1:23
-- |   |
-- | 1 | SELECT clientid RLIKE '(' AS a FROM "t/#"
-- |   |                       ^^^
SELECT clientid RLIKE '(' AS a FROM "t/#"
----
-- payload: {"p":"("}
-- failed: bad_argument: not a regular expression: unclosed group at 1:23, value (
-- payload: {"p":"^c"}
-- result: [{"a":true}]
-- payload: {"p":1}
-- failed: type: RLIKE takes a pattern that is text, not an integer at 1:23, value 1
SELECT clientid RLIKE payload.p AS a FROM "t/#"
