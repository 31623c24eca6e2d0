-- result: [{"a":"c1\\nt/1","b":"c1\\tt/1"}]
-- warning:
-- | warning[W0018]: a backslash in a string is an ordinary character
-- |  --> 1:20
-- |   |
-- | 1 | SELECT clientid || '\n' || topic AS a, concat(clientid, '\t', topic) AS b FROM "t/#"
-- |   |                    ^^^^ write `unescape('\n')`
-- warning:
-- | warning[W0018]: a backslash in a string is an ordinary character
-- |  --> 1:57
-- |   |
-- | 1 | SELECT clientid || '\n' || topic AS a, concat(clientid, '\t', topic) AS b FROM "t/#"
-- |   |                                                         ^^^^ write `unescape('\t')`
SELECT clientid || '\n' || topic AS a, concat(clientid, '\t', topic) AS b FROM "t/#"
----
-- In patterns, and in JSON that is put together by hand, they mean something.
-- result: [{"a":"{\"text\":\"a\\nb\"}","b":false,"c":"c1\n"}]
SELECT '{"text":"a' || '\n' || 'b"}' AS a, regex_match(topic, '\n') AS b, clientid || unescape('\n') AS c FROM "t/#"
