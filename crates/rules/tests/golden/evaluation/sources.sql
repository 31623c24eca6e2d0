-- Evaluated once, however many entries match.
-- topic: a/b
-- payload: x
-- result: [{"topic":"a/b","metadata":{"rule_id":"rule","trigger":"a/b","matched":"a/#"}}]
SELECT topic, metadata FROM "a/#", "a/+"
----
-- topic: $SYS/x
-- payload: 1
-- result: not matched
-- topic: sys
-- payload: 1
-- result: [{"topic":"sys"}]
-- warning:
-- | warning[W0010]: `#` matches every message
-- |  --> 1:19
-- |   |
-- | 1 | SELECT topic FROM "#"
-- |   |                   ^^^
SELECT topic FROM "#"
----
-- topic: a
-- payload: 1
-- result: [{"event":"message.publish"}]
-- topic: b
-- payload: 1
-- result: not matched
-- warning:
-- | warning[W0006]: a source without quotes
-- |  --> 1:24
-- |   |
-- | 1 | SELECT event FROM 'a', sensors
-- |   |                        ^^^^^^^ write "sensors"
SELECT event FROM 'a', sensors
----
-- event: $events/client_connected
-- fields: {"clientid":"c9","keepalive":60}
-- result: [{"event":"client.connected","clientid":"c9","keepalive":60,"timestamp":1700000000123,"node":"weir@test"}]
SELECT event, clientid, keepalive, username, timestamp, node FROM "$events/client/connected"
----
-- event: $events/client/connected
-- fields: {"clientid":"c9"}
-- result: [{"clientid":"c9","event":"client.connected"}]
-- event: $events/client/ping
-- fields: {"clientid":"c8"}
-- result: [{"clientid":"c8","event":"client.ping"}]
-- event: $events/session/subscribed
-- fields: {"clientid":"c7"}
-- result: not matched
SELECT clientid, event FROM "$events/client/+"
----
-- event: $bridges/mqtt:hq
-- fields: {"payload":"{\"a\":1}","topic":"x","server":"hq:1883"}
-- result: [{"event":"$bridges/mqtt:hq","a":1,"server":"hq:1883"}]
-- event: $bridges/mqtt:other
-- fields: {"payload":"5","topic":"y"}
-- result: [{"event":"$bridges/mqtt:other"}]
SELECT event, payload.a AS a, server FROM "$sources/mqtt:*"
----
-- event: $events/message/delivered
-- fields: {"payload":"{\"a\":1}","from_clientid":"p","clientid":"r"}
-- result: [{"a":1,"from_clientid":"p","clientid":"r","event":"message.delivered"}]
SELECT payload.a AS a, from_clientid, clientid, event FROM "$events/message_delivered"
----
-- topic: $events/client/connected
-- payload: 1
-- result: not matched
SELECT * FROM "$events/#"
