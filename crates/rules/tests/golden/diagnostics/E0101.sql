-- error:
-- | error[E0101]: no FROM source
-- |  --> 1:1
-- |   |
-- | 1 | SELECT qos
-- |   | ^^^^^^ a rule says FROM which topics or events
SELECT qos
----
-- error:
-- | error[E0101]: no FROM source
-- |  --> 1:1
-- |   |
-- | 1 | SELECT qos WHERE qos = 1
-- |   | ^^^^^^ a rule says FROM which topics or events
SELECT qos WHERE qos = 1
----
-- error:
-- | error[E0101]: no FROM source
-- |  --> 1:1
-- |   |
-- | 1 | FOREACH payload.list DO item.x
-- |   | ^^^^^^^ a rule says FROM which topics or events
FOREACH payload.list DO item.x
