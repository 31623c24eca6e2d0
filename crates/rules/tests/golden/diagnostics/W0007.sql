-- result: not matched
-- warning:
-- | warning[W0007]: `a` stands in FROM twice
-- |  --> 1:22
-- |   |
-- | 1 | SELECT qos FROM "a", "a"
-- |   |                      ^^^
SELECT qos FROM "a", "a"
