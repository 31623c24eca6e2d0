-- result: [{"a":2}]
-- warning:
-- | warning[W0008]: `a` is assigned twice
-- |  --> 1:21
-- |   |
-- | 1 | SELECT 1 AS a, 2 AS a FROM "t/#"
-- |   |                     ^ the last one wins
SELECT 1 AS a, 2 AS a FROM "t/#"
----
-- A name that an item gives itself counts, too.
-- result: [{"qos":1}]
-- warning:
-- | warning[W0008]: `qos` is assigned twice
-- |  --> 1:18
-- |   |
-- | 1 | SELECT qos, 1 AS qos FROM "t/#"
-- |   |                  ^^^ the last one wins
SELECT qos, 1 AS qos FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0008]: `payload.a` is assigned twice
-- |  --> 1:29
-- |   |
-- | 1 | SELECT payload.a, clientid, payload.a FROM "t/#"
-- |   |                             ^^^^^^^^^ the last one wins
SELECT payload.a, clientid, payload.a FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
SELECT payload.a, payload.b, payload.l[1], payload.l[2] FROM "t/#"
