-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 1
-- |   |                             ^^^^^
SELECT qos FROM "t/#" WHERE 1 = 1
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: one of these holds whatever `clientid` is
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid <> 'a' OR clientid <> 'b'
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ to exclude all of them write AND, or NOT IN (…)
SELECT qos FROM "t/#" WHERE clientid <> 'a' OR clientid <> 'b'
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0009]: one of these holds whatever `payload.x` is
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x <> 1 OR payload.x <> 2 OR qos = 1
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ to exclude all of them write AND, or NOT IN (…)
SELECT qos FROM "t/#" WHERE payload.x <> 1 OR payload.x <> 2 OR qos = 1
----
-- These are no such pair: the number 1 is both.
-- payload: {"x":1}
-- result: []
SELECT qos FROM "t/#" WHERE payload.x <> '1' OR payload.x <> '1.0' OR payload.y <> 3
----
-- One side of AND decides for all.
-- result: []
-- warning:
-- | warning[W0009]: `1 = 2` never holds
-- |  --> 1:41
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 AND 1 = 2
-- |   |                                         ^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE qos = 1 AND 1 = 2
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0009]: `'a' =~ 'b'` never holds
-- |  --> 1:47
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x > 1 AND 'a' =~ 'b' AND payload.y > 2
-- |   |                                               ^^^^^^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE payload.x > 1 AND 'a' =~ 'b' AND payload.y > 2
----
-- result: []
-- warning:
-- | warning[W0009]: `'a' LIKE 'b%'` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 'a' LIKE 'b%' AND qos = 1
-- |   |                             ^^^^^^^^^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE 'a' LIKE 'b%' AND qos = 1
----
-- result: []
-- warning:
-- | warning[W0009]: `5 IN (1, 2)` never holds
-- |  --> 1:41
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 AND 5 IN (1, 2)
-- |   |                                         ^^^^^^^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE qos = 1 AND 5 IN (1, 2)
----
-- result: []
-- warning:
-- | warning[W0009]: `NULL` never holds
-- |  --> 1:41
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 AND NULL
-- |   |                                         ^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE qos = 1 AND NULL
----
-- One that is always true changes nothing.
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: `1 = 1` always holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 1 AND qos = 1 AND 'ab' RLIKE '^a'
-- |   |                             ^^^^^ it changes nothing: leave it out
-- warning:
-- | warning[W0009]: `'ab' RLIKE '^a'` always holds
-- |  --> 1:51
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 1 AND qos = 1 AND 'ab' RLIKE '^a'
-- |   |                                                   ^^^^^^^^^^^^^^^ it changes nothing: leave it out
SELECT qos FROM "t/#" WHERE 1 = 1 AND qos = 1 AND 'ab' RLIKE '^a'
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0013]: `qos = 5` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 5 OR 1 = 1
-- |   |                             ^^^^^^^ `qos` is 0, 1 or 2
-- warning:
-- | warning[W0009]: `1 = 1` always holds
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 5 OR 1 = 1
-- |   |                                        ^^^^^ so the whole OR always holds
SELECT qos FROM "t/#" WHERE qos = 5 OR 1 = 1
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: `'a' IN ['b']` never holds
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 OR 'a' IN ['b']
-- |   |                                        ^^^^^^^^^^^^ it changes nothing: leave it out
SELECT qos FROM "t/#" WHERE qos = 1 OR 'a' IN ['b']
----
-- result: []
-- warning:
-- | warning[W0009]: the condition never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 5 BETWEEN 1 AND 2
-- |   |                             ^^^^^^^^^^^^^^^^^
SELECT qos FROM "t/#" WHERE 5 BETWEEN 1 AND 2
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: `NOT (1 = 1)` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE NOT (1 = 1) OR qos = 1
-- |   |                             ^^^^^^^^^^^ it changes nothing: leave it out
SELECT qos FROM "t/#" WHERE NOT (1 = 1) OR qos = 1
----
-- What may fail before it still fails.
-- payload: no JSON
-- failed: payload_decode: the payload is not JSON: expected ident at line 1 column 2 at 1:29, value no JSON
-- warning:
-- | warning[W0009]: `1 = 2` never holds
-- |  --> 1:47
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x > 1 AND 1 = 2
-- |   |                                               ^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE payload.x > 1 AND 1 = 2
----
-- What stands behind it is not looked at.
-- payload: no JSON
-- result: []
-- warning:
-- | warning[W0009]: `1 = 2` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 2 AND payload.x > 1
-- |   |                             ^^^^^ so the whole AND never holds
SELECT qos FROM "t/#" WHERE 1 = 2 AND payload.x > 1
----
-- A WHEN is a condition, too.
-- result: [{"v":"a"}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:40
-- |   |
-- | 1 | SELECT CASE WHEN qos = 1 THEN 'a' WHEN 1 = 1 THEN 'b' ELSE 'c' END AS v FROM "t/#"
-- |   |                                        ^^^^^
SELECT CASE WHEN qos = 1 THEN 'a' WHEN 1 = 1 THEN 'b' ELSE 'c' END AS v FROM "t/#"
