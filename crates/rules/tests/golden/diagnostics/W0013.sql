-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `payload.t < 20` never holds here
-- |  --> 1:48
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.t > 30 AND payload.t < 20
-- |   |                                                ^^^^^^^^^^^^^^ it excludes `payload.t > 30`
SELECT qos FROM "t/#" WHERE payload.t > 30 AND payload.t < 20
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `payload.x = 2` never holds here
-- |  --> 1:47
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x = 1 AND payload.x = 2
-- |   |                                               ^^^^^^^^^^^^^ it excludes `payload.x = 1`
SELECT qos FROM "t/#" WHERE payload.x = 1 AND payload.x = 2
----
-- result: []
-- warning:
-- | warning[W0013]: `(clientid) = 'b'` never holds here
-- |  --> 1:67
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid = 'a' AND username = 'u' AND (clientid) = 'b'
-- |   |                                                                   ^^^^^^^^^^^^^^^^ it excludes `clientid = 'a'`
SELECT qos FROM "t/#" WHERE clientid = 'a' AND username = 'u' AND (clientid) = 'b'
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `payload.x IN (6, 7)` never holds here
-- |  --> 1:59
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x BETWEEN 1 AND 5 AND payload.x IN (6, 7)
-- |   |                                                           ^^^^^^^^^^^^^^^^^^^ it excludes `payload.x BETWEEN 1 AND 5`
SELECT qos FROM "t/#" WHERE payload.x BETWEEN 1 AND 5 AND payload.x IN (6, 7)
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `payload.x BETWEEN 20 AND 10` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x BETWEEN 20 AND 10
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^ write BETWEEN 10 AND 20
SELECT qos FROM "t/#" WHERE payload.x BETWEEN 20 AND 10
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `payload.x > 5` never holds here
-- |  --> 1:51
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x IS NULL AND payload.x > 5
-- |   |                                                   ^^^^^^^^^^^^^ it excludes `payload.x IS NULL`
SELECT qos FROM "t/#" WHERE payload.x IS NULL AND payload.x > 5
----
-- result: []
-- warning:
-- | warning[W0013]: `retain = 1` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE retain = 1
-- |   |                             ^^^^^^^^^^ `retain` is true or false
SELECT qos FROM "t/#" WHERE retain = 1
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:76, value 
-- warning:
-- | warning[W0013]: `flags.retain = 'yes'` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE flags.retain = 'yes' OR qos > 2 OR contains(1, payload.list) = 1
-- |   |                             ^^^^^^^^^^^^^^^^^^^^ `flags.retain` is true or false
-- warning:
-- | warning[W0013]: `qos > 2` never holds
-- |  --> 1:53
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE flags.retain = 'yes' OR qos > 2 OR contains(1, payload.list) = 1
-- |   |                                                     ^^^^^^^ `qos` is 0, 1 or 2
-- warning:
-- | warning[W0013]: `contains(1, payload.list) = 1` never holds
-- |  --> 1:64
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE flags.retain = 'yes' OR qos > 2 OR contains(1, payload.list) = 1
-- |   |                                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `contains(1, payload.list)` is true or false
SELECT qos FROM "t/#" WHERE flags.retain = 'yes' OR qos > 2 OR contains(1, payload.list) = 1
----
-- result: []
-- warning:
-- | warning[W0013]: `event = 'client.connected'` never holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE event = 'client.connected'
-- |   |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^ `event` is always 'message.publish' with this FROM
SELECT qos FROM "t/#" WHERE event = 'client.connected'
----
-- result: not matched
-- warning:
-- | warning[W0013]: `event = 'client.ping'` never holds
-- |  --> 1:86
-- |   |
-- | 1 | SELECT clientid FROM "$events/client/connected", "$events/client/disconnected" WHERE event = 'client.ping'
-- |   |                                                                                      ^^^^^^^^^^^^^^^^^^^^^ `event` is 'client.connected' or 'client.disconnected' with this FROM
SELECT clientid FROM "$events/client/connected", "$events/client/disconnected" WHERE event = 'client.ping'
----
-- result: not matched
-- warning:
-- | warning[W0013]: the topic is never 'sites/a/up'
-- |  --> 1:58
-- |   |
-- | 1 | SELECT qos FROM "site/+/up", "site/+/down" WHERE topic = 'sites/a/up'
-- |   |                                                          ^^^^^^^^^^^^ no entry of FROM matches it
SELECT qos FROM "site/+/up", "site/+/down" WHERE topic = 'sites/a/up'
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:29, value 
-- warning:
-- | warning[W0013]: `IN` never holds: what follows it is a string
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x IN 'a' OR 'a' NOT IN topic
-- |   |                             ^^^^^^^^^^^^^^^^ write `IN ('a')`
-- warning:
-- | warning[W0013]: `NOT IN` never holds: what follows it is a string
-- |  --> 1:49
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE payload.x IN 'a' OR 'a' NOT IN topic
-- |   |                                                 ^^^^^^^^^^^^^^^^ for a part of a text: `indexof(text, part) >= 0`
SELECT qos FROM "t/#" WHERE payload.x IN 'a' OR 'a' NOT IN topic
----
-- Each of these may hold.
-- payload: {"t":25,"x":"10","l":[1,2]}
-- result: [{"qos":1}]
SELECT qos FROM "t/#" WHERE payload.t > 20 AND payload.t < 30 AND payload.x > 5 AND payload.x < '2' AND payload.x IS NOT NULL AND payload.l[1] = 1 AND payload.l[2] = 2 AND retain = 'false' AND topic = 't/1' AND event = 'message.publish' AND qos BETWEEN 1 AND 2
----
-- Drawn anew each time.
-- payload: {"a":[1]}
-- result: [{"qos":1}]
SELECT qos FROM "t/#" WHERE (random() >= 0 AND random() < 1) AND payload.a[qos] = 1 AND payload.a[qos] <> 2
