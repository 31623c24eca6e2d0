-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0020]: `/` by zero
-- |  --> 1:8
-- |   |
-- | 1 | SELECT payload.a / 0 AS a, 'x' * qos AS b, qos - true AS c FROM "t/#"
-- |   |        ^^^^^^^^^^^^^ this can never be computed
-- warning:
-- | warning[W0020]: `*` takes numbers, not a string
-- |  --> 1:28
-- |   |
-- | 1 | SELECT payload.a / 0 AS a, 'x' * qos AS b, qos - true AS c FROM "t/#"
-- |   |                            ^^^^^^^^^ this can never be computed
-- warning:
-- | warning[W0020]: `-` takes numbers, not a boolean
-- |  --> 1:44
-- |   |
-- | 1 | SELECT payload.a / 0 AS a, 'x' * qos AS b, qos - true AS c FROM "t/#"
-- |   |                                            ^^^^^^^^^^ this can never be computed
SELECT payload.a / 0 AS a, 'x' * qos AS b, qos - true AS c FROM "t/#"
----
-- What can be computed for some messages is right.
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:38, value 
SELECT 1 / qos AS a, 'x' + qos AS b, payload.a || 0 AS c FROM "t/#"
----
-- How large the other side is decides.
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:31, value 
SELECT -9223372036854775808 - payload.x AS a, payload.x - -9223372036854775808 AS b, 9223372036854775807 + payload.x AS c FROM "t/#"
