-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0005]: an alias without AS
-- |  --> 1:18
-- |   |
-- | 1 | SELECT payload.x y FROM "t/#"
-- |   |                  ^ write `AS y`
SELECT payload.x y FROM "t/#"
----
-- result: [{"topic":"c1"}]
-- warning:
-- | warning[W0005]: an alias without AS
-- |  --> 1:17
-- |   |
-- | 1 | SELECT clientid topic FROM "t/#"
-- |   |                 ^^^^^ write `AS topic`, or a comma before it
SELECT clientid topic FROM "t/#"
