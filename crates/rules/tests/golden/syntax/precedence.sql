-- result: [{"a":7,"b":9,"c":-6,"d":4,"e":4,"f":4,"g":3,"h":1,"i":1}]
SELECT 1 + 2 * 3 AS a, (1 + 2) * 3 AS b, -2 * 3 AS c, 7 - 2 - 1 AS d, 2 * 7 DIV 3 AS e, 7 MOD 4 + 1 AS f, 7 % 4 AS g, - - 1 AS h, +1 AS i FROM "t/#"
----
-- result: [{"a":true,"b":false,"c":true,"d":true,"e":true,"f":true}]
SELECT TRUE OR FALSE AND FALSE AS a, NOT FALSE AND FALSE AS b, NOT 1 = 2 AS c, 1 + 1 = 2 AS d, 1 = 1 AND 2 = 2 AS e, NOT NOT TRUE AS f FROM "t/#"
----
-- error:
-- | error[E0002]: comparisons do not chain
-- |  --> 1:52
-- |   |
-- | 1 | SELECT 'a' || 1 + 1 AS a, 1 + 1 || 'a' AS b, 1 < 2 = TRUE AS c FROM "t/#"
-- |   |                                                    ^ join them with AND, or use parentheses
SELECT 'a' || 1 + 1 AS a, 1 + 1 || 'a' AS b, 1 < 2 = TRUE AS c FROM "t/#"
----
-- result: [{"c":true,"d":false}]
SELECT (1 < 2) = TRUE AS c, 1 < (2 = 2) AS d FROM "t/#"
----
-- warning:
-- | warning[W0001]: no source has a field `a`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT a FROM "t/#" WHERE 1 < qos < 3
-- |   |        ^ is `payload.a` meant?
-- error:
-- | error[E0002]: comparisons do not chain
-- |  --> 1:35
-- |   |
-- | 1 | SELECT a FROM "t/#" WHERE 1 < qos < 3
-- |   |                                   ^ join them with AND, or use parentheses
SELECT a FROM "t/#" WHERE 1 < qos < 3
----
-- warning:
-- | warning[W0001]: no source has a field `a`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT a FROM "t/#" WHERE qos = NOT TRUE
-- |   |        ^ is `payload.a` meant?
-- error:
-- | error[E0002]: expected an operand, found `NOT`
-- |  --> 1:33
-- |   |
-- | 1 | SELECT a FROM "t/#" WHERE qos = NOT TRUE
-- |   |                                 ^^^ put the NOT in parentheses
SELECT a FROM "t/#" WHERE qos = NOT TRUE
----
-- result: [{"a":2,"b":1,"c":2,"d":1}]
SELECT 5 div 2 AS a, 5 mod 2 AS b, div(5, 2) AS c, MOD(5, 2) AS d FROM "t/#"
