-- result: []
-- warning:
-- | warning[W0003]: `= NULL` is never true for a missing value
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = NULL
-- |   |                             ^^^^^^^^^^ write IS NULL or IS NOT NULL
SELECT qos FROM "t/#" WHERE qos = NULL
----
-- result: []
-- warning:
-- | warning[W0003]: `<> NULL` is never true for a missing value
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE username <> NULL
-- |   |                             ^^^^^^^^^^^^^^^^ write IS NULL or IS NOT NULL
SELECT qos FROM "t/#" WHERE username <> NULL
