-- result: []
-- warning:
-- | warning[W0014]: no topic of a message has a `+` in it
-- |  --> 1:37
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE topic = 't/+'
-- |   |                                     ^^^^^ write `topic =~ 't/+'`
SELECT qos FROM "t/#" WHERE topic = 't/+'
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0014]: no topic of a message has a `#` in it
-- |  --> 1:38
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE topic <> 't/#' AND topic IN ('t/1', 't/+')
-- |   |                                      ^^^^^ write `NOT topic =~ 't/#'`
-- warning:
-- | warning[W0014]: no topic of a message has a `+` in it
-- |  --> 1:65
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE topic <> 't/#' AND topic IN ('t/1', 't/+')
-- |   |                                                                 ^^^^^ a filter is matched by `topic =~ 't/+'`
SELECT qos FROM "t/#" WHERE topic <> 't/#' AND topic IN ('t/1', 't/+')
----
-- result: []
-- warning:
-- | warning[W0014]: no topic of a message has a `#` in it
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE topic LIKE 't/#' OR topic LIKE '%+%'
-- |   |                                        ^^^^^ write `topic =~ 't/#'`
-- warning:
-- | warning[W0014]: no topic of a message has a `+` in it
-- |  --> 1:60
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE topic LIKE 't/#' OR topic LIKE '%+%'
-- |   |                                                            ^^^^^ `=~` matches a topic against a filter
SELECT qos FROM "t/#" WHERE topic LIKE 't/#' OR topic LIKE '%+%'
----
-- The topic of a subscription is a filter.
-- event: $events/session/subscribed
-- fields: {"topic":"t/#","clientid":"a","qos":1}
-- result: [{"topic":"t/#"}]
SELECT topic FROM "$events/session/subscribed" WHERE topic = 't/#'
----
-- Filters and patterns where they belong.
-- result: [{"qos":1}]
SELECT qos FROM "t/#" WHERE topic =~ 't/+' AND topic LIKE 't/%' AND topic RLIKE '^t/.+'
