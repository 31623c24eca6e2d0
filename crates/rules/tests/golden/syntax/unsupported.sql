-- error:
-- | error[E0003]: ORDER BY is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" ORDER BY qos
-- |   |                       ^^^^^ a rule sees one message at a time; `array_sort` sorts an array
SELECT qos FROM "t/#" ORDER BY qos
----
-- error:
-- | error[E0003]: LIMIT is not supported
-- |  --> 1:37
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 LIMIT 5
-- |   |                                     ^^^^^ a rule sees one message at a time; `array_slice` takes a part of an array
SELECT qos FROM "t/#" WHERE qos = 1 LIMIT 5
----
-- error:
-- | error[E0003]: DISTINCT is not supported
-- |  --> 1:8
-- |   |
-- | 1 | SELECT DISTINCT qos FROM "t/#"
-- |   |        ^^^^^^^^ a rule sees one message at a time; `array_distinct` is for arrays
SELECT DISTINCT qos FROM "t/#"
----
-- error:
-- | error[E0003]: UNION is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" UNION SELECT 1
-- |   |                       ^^^^^ FROM takes several topics: FROM "a/+", "b/+"; else write two rules
SELECT qos FROM "t/#" UNION SELECT 1
----
-- error:
-- | error[E0003]: a sub-query is not supported
-- |  --> 1:9
-- |   |
-- | 1 | SELECT (SELECT 1 FROM x) AS a FROM "t/#"
-- |   |         ^^^^^^ a rule sees one message; FOREACH goes through an array
SELECT (SELECT 1 FROM x) AS a FROM "t/#"
----
-- error:
-- | error[E0003]: GROUP BY is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" GROUP BY qos
-- |   |                       ^^^^^ windows are not there yet; `kv_store_put` and `kv_store_get` keep values between messages
SELECT qos FROM "t/#" GROUP BY qos
----
-- error:
-- | error[E0003]: HAVING is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" HAVING qos > 1
-- |   |                       ^^^^^^ windows are not there yet; use WHERE
SELECT qos FROM "t/#" HAVING qos > 1
----
-- error:
-- | error[E0003]: `WITH` does not start a rule
-- |  --> 1:1
-- |   |
-- | 1 | WITH a AS (SELECT 1) SELECT qos FROM "t/#"
-- |   | ^^^^ a rule is one SELECT or FOREACH; an item may use the aliases before it
WITH a AS (SELECT 1) SELECT qos FROM "t/#"
----
-- error:
-- | error[E0003]: `INSERT` does not start a rule
-- |  --> 1:1
-- |   |
-- | 1 | INSERT INTO x VALUES (1)
-- |   | ^^^^^^ a rule is one SELECT or FOREACH; what becomes of its rows is said in `[[sinks]]`
INSERT INTO x VALUES (1)
----
-- error:
-- | error[E0003]: `DELETE` does not start a rule
-- |  --> 1:1
-- |   |
-- | 1 | DELETE FROM x
-- |   | ^^^^^^ a rule is one SELECT or FOREACH; what becomes of its rows is said in `[[sinks]]`
DELETE FROM x
----
-- error:
-- | error[E0003]: names for sources are not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" AS m
-- |   |                       ^^ fields are written without a prefix
SELECT qos FROM "t/#" AS m
----
-- error:
-- | error[E0003]: JOIN is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" LEFT JOIN x ON 1 = 1
-- |   |                       ^^^^ a rule sees one message at a time; `kv_store_get` looks up what an earlier one stored
SELECT qos FROM "t/#" LEFT JOIN x ON 1 = 1
----
-- error:
-- | error[E0003]: `count(*)` needs a window, and windows are not supported
-- |  --> 1:8
-- |   |
-- | 1 | SELECT count(*) AS n FROM "t/#"
-- |   |        ^^^^^^^^ `kv_store_incr('key')` counts messages
SELECT count(*) AS n FROM "t/#"
----
-- error:
-- | error[E0003]: a sub-query is not supported
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM (SELECT 1)
-- |   |                 ^ FROM takes topic filters and events: a rule sees one message at a time
SELECT qos FROM (SELECT 1)
----
-- error:
-- | error[E0003]: DATE literals are not supported
-- |  --> 1:8
-- |   |
-- | 1 | SELECT DATE '2020-01-01' AS d FROM "t/#"
-- |   |        ^^^^ times are milliseconds; `rfc3339_to_unix_ts('…', 'millisecond')`
SELECT DATE '2020-01-01' AS d FROM "t/#"
----
-- error:
-- | error[E0003]: a sub-query is not supported
-- |  --> 1:15
-- |   |
-- | 1 | SELECT exists(SELECT 1) AS a FROM "t/#"
-- |   |               ^^^^^^ a rule sees one message; FOREACH goes through an array
SELECT exists(SELECT 1) AS a FROM "t/#"
----
-- error:
-- | error[E0003]: OVER is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos OVER (PARTITION BY clientid) FROM "t/#"
-- |   |            ^^^^ windows are not there yet; `kv_store_put` and `kv_store_get` keep values between messages
SELECT qos OVER (PARTITION BY clientid) FROM "t/#"
