-- result: [{"a":2}]
-- warning:
-- | warning[W0008]: `a` is assigned twice
-- |  --> 1:21
-- |   |
-- | 1 | SELECT 1 AS a, 2 AS a FROM "t/#"
-- |   |                     ^ the last one wins
SELECT 1 AS a, 2 AS a FROM "t/#"
