-- result: [{"qos":1}]
-- warning:
-- | warning[W0010]: `#` matches every message
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "#"
-- |   |                 ^^^
SELECT qos FROM "#"
