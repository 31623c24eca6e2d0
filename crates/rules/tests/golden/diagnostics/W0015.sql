-- payload: {"list":[1,2]}
-- result: [{"b":1}]
-- warning:
-- | warning[W0015]: there is no element 0: this is always undefined
-- |  --> 1:21
-- |   |
-- | 1 | SELECT payload.list[0] AS a, payload.list[1] AS b FROM "t/#"
-- |   |                     ^ elements are counted from 1, or from the end with -1
SELECT payload.list[0] AS a, payload.list[1] AS b FROM "t/#"
----
-- failed: bad_argument: argument 1 is outside of the array at 1:8, value 0
-- warning:
-- | warning[W0015]: there is no element 0: `nth` always fails
-- |  --> 1:12
-- |   |
-- | 1 | SELECT nth(0, tokens(topic, '/')) AS a, topic(0) AS b FROM "t/#"
-- |   |            ^ elements are counted from 1
-- warning:
-- | warning[W0015]: there is no element 0: `topic` is always undefined
-- |  --> 1:47
-- |   |
-- | 1 | SELECT nth(0, tokens(topic, '/')) AS a, topic(0) AS b FROM "t/#"
-- |   |                                               ^ elements are counted from 1
SELECT nth(0, tokens(topic, '/')) AS a, topic(0) AS b FROM "t/#"
----
-- In an alias it has a meaning: in front.
-- result: [{"a":[1]}]
SELECT qos AS a[0] FROM "t/#"
