-- result: [{"_v_1":2}]
-- warning:
-- | warning[W0004]: an expression without a name becomes `_v_1`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT qos + 1 FROM "t/#"
-- |   |        ^^^^^^^ give it a name with AS
SELECT qos + 1 FROM "t/#"
