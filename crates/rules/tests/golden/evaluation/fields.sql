-- clientid: sensor-7
-- topic: a/b/c
-- payload: x
-- result: [{"id":"000000000000000000000123456789ab","clientid":"sensor-7","payload":"x","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"a/b/c","qos":1,"flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","rule":"rule"}]
SELECT id, clientid, username, payload, peerhost, peername, topic, qos, flags, retain, pub_props, publish_received_at, client_attrs, event, timestamp, node, metadata.rule_id AS rule FROM "a/#"
----
-- result: [{"d":false,"r":false}]
SELECT flags.dup AS d, flags.retain AS r, flags.x AS x, topic.x AS t FROM "t/#"
----
-- event: $events/message_dropped
-- fields: {"topic":"a","reason":"no_subscribers","flags":{"retain":true}}
-- result: [{"topic":"a","reason":"no_subscribers","r":true,"event":"message.dropped"}]
SELECT topic, reason, flags.retain AS r, retain, event FROM "$events/message/dropped"
