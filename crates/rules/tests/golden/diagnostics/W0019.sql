-- result: []
-- warning:
-- | warning[W0019]: nothing is filled into a string of a statement
-- |  --> 1:8
-- |   |
-- | 1 | SELECT '${clientid}' AS a FROM "t/#" WHERE topic = '${payload.topic}'
-- |   |        ^^^^^^^^^^^^^ write `clientid`
-- warning:
-- | warning[W0019]: nothing is filled into a string of a statement
-- |  --> 1:52
-- |   |
-- | 1 | SELECT '${clientid}' AS a FROM "t/#" WHERE topic = '${payload.topic}'
-- |   |                                                    ^^^^^^^^^^^^^^^^^^ write `payload.topic`
SELECT '${clientid}' AS a FROM "t/#" WHERE topic = '${payload.topic}'
----
-- A text that is made for others to fill.
-- result: [{"a":"Hello ${name}","b":"${name}","c":"c1 is up"}]
SELECT 'Hello ${name}' AS a, '${name}' AS b, replace('${clientid} is up', '${clientid}', clientid) AS c FROM "t/#"
