-- result: [{"a":123,"b":1.5,"c":0.5,"d":1.0,"e":1000.0,"f":0.025,"g":9223372036854775807,"h":-9223372036854775808}]
SELECT 123 AS a, 1.5 AS b, .5 AS c, 1. AS d, 1e3 AS e, 2.5E-2 AS f, 9223372036854775807 AS g, -9223372036854775808 AS h FROM "t/#"
----
-- error:
-- | error[E0107]: `9223372036854775808` is outside the 64-bit range
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 9223372036854775808 AS a, 1e999 AS b FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^^^^^
-- error:
-- | error[E0001]: `1e999` is no finite number
-- |  --> 1:34
-- |   |
-- | 1 | SELECT 9223372036854775808 AS a, 1e999 AS b FROM "t/#"
-- |   |                                  ^^^^^
SELECT 9223372036854775808 AS a, 1e999 AS b FROM "t/#"
----
-- error:
-- | error[E0001]: there are no strings or numbers that start with `0x`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 0x1F AS a FROM "t/#"
-- |   |        ^^^^ write it in decimal
SELECT 0x1F AS a FROM "t/#"
----
-- error:
-- | error[E0001]: a number cannot be followed by `_000`
-- |  --> 1:9
-- |   |
-- | 1 | SELECT 1_000 AS a FROM "t/#"
-- |   |         ^^^^
SELECT 1_000 AS a FROM "t/#"
----
-- error:
-- | error[E0001]: a number cannot be followed by `abc`
-- |  --> 1:10
-- |   |
-- | 1 | SELECT 12abc AS a FROM "t/#"
-- |   |          ^^^
SELECT 12abc AS a FROM "t/#"
----
-- error:
-- | error[E0001]: a number cannot be followed by `L`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 5L AS a FROM "t/#"
-- |   |        ^^
SELECT 5L AS a FROM "t/#"
