-- payload: {"a":1}
-- result: [{"id":"000000000000000000000123456789ab","clientid":"c1","payload":"{\"a\":1}","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"t/1","qos":1,"flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"t/1","matched":"t/#"}}]
SELECT * FROM "t/#"
----
-- payload: 1
-- result: [{"qos":1,"id":"000000000000000000000123456789ab","clientid":"c1","payload":"1","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"t/1","flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"t/1","matched":"t/#"}}]
SELECT 7 AS qos, * FROM "t/#"
----
-- payload: 1
-- result: [{"id":"000000000000000000000123456789ab","clientid":"c1","payload":"1","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"t/1","qos":7,"flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"t/1","matched":"t/#"}}]
SELECT *, 7 AS qos FROM "t/#"
----
-- event: $events/client/disconnected
-- fields: {"clientid":"c1","reason":"normal"}
-- result: [{"clientid":"c1","reason":"normal","event":"client.disconnected","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"$events/client/disconnected","matched":"$events/client/disconnected"}}]
SELECT * FROM "$events/client/disconnected"
