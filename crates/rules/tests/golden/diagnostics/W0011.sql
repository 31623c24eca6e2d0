-- payload: {"topic":"x"}
-- result: [{"topic":"x"}]
-- warning:
-- | warning[W0011]: the alias hides the field `topic`, which is used later
-- |  --> 1:25
-- |   |
-- | 1 | SELECT payload.topic AS topic FROM "t/#" WHERE topic = 'x'
-- |   |                         ^^^^^
-- |   = help: another name for the alias keeps both in reach
SELECT payload.topic AS topic FROM "t/#" WHERE topic = 'x'
----
-- result: [{"clientid":"c1"}]
SELECT clientid AS clientid FROM "t/#" WHERE clientid = 'c1'
