-- result: [{}]
-- warning:
-- | warning[W0001]: no source has a field `temperature`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT temperature, clientId FROM "t/#"
-- |   |        ^^^^^^^^^^^ is `payload.temperature` meant?
-- warning:
-- | warning[W0001]: no source has a field `clientId`
-- |  --> 1:21
-- |   |
-- | 1 | SELECT temperature, clientId FROM "t/#"
-- |   |                     ^^^^^^^^ did you mean `clientid`?
SELECT temperature, clientId FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0001]: this subtracts `temp`, and no source has such a field
-- |  --> 1:8
-- |   |
-- | 1 | SELECT payload.room-temp FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^^^ a key with a hyphen is written payload.'room-temp'
SELECT payload.room-temp FROM "t/#"
----
-- An alias is no field, and is known all the same.
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
SELECT payload.a AS a, a + 1 AS b FROM "t/#" WHERE b > 1
----
-- Backticks quote a name, never a string.
-- result: [{}]
-- warning:
-- | warning[W0001]: no source has a field `clientId`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT `clientId` AS a FROM "t/#"
-- |   |        ^^^^^^^^^^ did you mean `clientid`?
SELECT `clientId` AS a FROM "t/#"
