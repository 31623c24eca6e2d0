-- error:
-- | error[E0108]: `*` takes numbers, not a string
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 'a' * 2 AS a FROM "t/#"
-- |   |        ^^^^^^^ this can never be computed
SELECT 'a' * 2 AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `DIV` by zero
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 1 DIV 0 AS a FROM "t/#"
-- |   |        ^^^^^^^ this can never be computed
SELECT 1 DIV 0 AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `/` by zero
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 1 / 0 AS a FROM "t/#"
-- |   |        ^^^^^ this can never be computed
SELECT 1 / 0 AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `-` takes numbers, not a string
-- |  --> 1:8
-- |   |
-- | 1 | SELECT -'a' AS a FROM "t/#"
-- |   |        ^^^^
SELECT -'a' AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `+` leaves the 64-bit range
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 9223372036854775807 + 1 AS a FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^^^^^^^^^ this can never be computed
SELECT 9223372036854775807 + 1 AS a FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0020]: `-` takes numbers, not a string
-- |  --> 1:8
-- |   |
-- | 1 | SELECT payload.x - 'a' AS a FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^ this can never be computed
SELECT payload.x - 'a' AS a FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0020]: `DIV` takes integers, not a float
-- |  --> 1:8
-- |   |
-- | 1 | SELECT payload.x DIV 1.5 AS a FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^^^ this can never be computed
SELECT payload.x DIV 1.5 AS a FROM "t/#"
----
-- failed: div_zero: `/` by zero at 1:8
-- warning:
-- | warning[W0020]: `/` by zero
-- |  --> 1:8
-- |   |
-- | 1 | SELECT qos / 0 AS a FROM "t/#"
-- |   |        ^^^^^^^ this can never be computed
SELECT qos / 0 AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `*` takes numbers, not null
-- |  --> 1:8
-- |   |
-- | 1 | SELECT NULL * 2 AS a FROM "t/#"
-- |   |        ^^^^^^^^ this can never be computed
SELECT NULL * 2 AS a FROM "t/#"
----
-- error:
-- | error[E0108]: `DIV` by zero
-- |  --> 1:12
-- |   |
-- | 1 | SELECT 1 + (2 DIV 0) AS a FROM "t/#"
-- |   |            ^^^^^^^^^ this can never be computed
SELECT 1 + (2 DIV 0) AS a FROM "t/#"
