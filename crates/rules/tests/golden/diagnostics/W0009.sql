-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 1
-- |   |                             ^^^^^
SELECT qos FROM "t/#" WHERE 1 = 1
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: one of these holds whatever `clientid` is
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid <> 'a' OR clientid <> 'b'
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ to exclude all of them write AND, or NOT IN (…)
SELECT qos FROM "t/#" WHERE clientid <> 'a' OR clientid <> 'b'
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0009]: one of these holds whatever `payload.x` is
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x <> 1 OR payload.x <> 2 OR qos = 1
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ to exclude all of them write AND, or NOT IN (…)
SELECT qos FROM "t/#" WHERE payload.x <> 1 OR payload.x <> 2 OR qos = 1
----
-- These are no such pair: the number 1 is both.
-- payload: {"x":1}
-- result: []
SELECT qos FROM "t/#" WHERE payload.x <> '1' OR payload.x <> '1.0' OR payload.y <> 3
