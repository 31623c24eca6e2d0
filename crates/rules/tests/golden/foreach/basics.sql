-- payload: {"s":[{"v":1},{"v":5},{"v":9}],"d":"x"}
-- result: [{"clientid":"c1","v":5,"d":"x"},{"clientid":"c1","v":9,"d":"x"}]
FOREACH payload.s AS e DO clientid, e.v AS v, payload.d AS d INCASE e.v > 2 FROM "t/#" WHERE payload.d = 'x'
----
-- payload: {"s":[1,2]}
-- result: [{"v":2},{"v":4}]
FOREACH payload.s DO item * 2 AS v FROM "t/#"
----
-- payload: {"s":[1]}
-- result: [{"id":"000000000000000000000123456789ab","clientid":"c1","payload":"{\"s\":[1]}","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"t/1","qos":1,"flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"t/1","matched":"t/#"},"item":1}]
FOREACH payload.s FROM "t/#"
----
-- payload: {"s":[1],"k":3}
-- result: [{"id":"000000000000000000000123456789ab","clientid":"c1","payload":"{\"s\":[1],\"k\":3}","peerhost":"192.0.2.1","peername":"192.0.2.1:50000","topic":"t/1","qos":1,"flags":{"dup":false,"retain":false},"retain":false,"pub_props":{},"publish_received_at":1700000000120,"client_attrs":{},"event":"message.publish","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"t/1","matched":"t/#"},"k":3,"e":1}]
FOREACH payload.k AS k, payload.s AS e DO * FROM "t/#"
----
-- A collection that is no array counts as empty.
-- payload: {"s":5}
-- result: []
-- payload: {}
-- result: []
FOREACH payload.s FROM "t/#"
----
-- payload: [1,2]
-- result: [{"p":1},{"p":2}]
-- payload: nope
-- failed: payload_decode: the payload is not JSON: expected ident at line 1 column 2 at 1:9, value nope
-- payload: {"a":1}
-- result: []
FOREACH payload AS p DO p FROM "t/#"
----
-- In WHERE the alias stands for the whole array.
-- payload: {"s":[1,2]}
-- result: [{"e":1},{"e":2}]
-- payload: {"s":[1]}
-- result: []
FOREACH payload.s AS e DO e FROM "t/#" WHERE length(e) > 1
----
-- An error for one element fails the whole evaluation.
-- payload: {"s":[1,"x",2]}
-- failed: type: `*` takes numbers, not a string at 1:27, value x
FOREACH payload.s AS e DO e * 2 AS v FROM "t/#"
----
-- payload: {"s":[[1,2],[3]]}
-- result: [{"first":3,"next":4}]
FOREACH payload.s AS e DO e[1] AS first, first + 1 AS next INCASE next > 2 FROM "t/#"
----
-- payload: {"a":{"l":[1,2]}}
-- result: [{"e":1,"one":1},{"e":2,"one":1}]
FOREACH payload.a AS a, a.l AS e DO e, a.l[1] AS one FROM "t/#"
----
-- payload: "[1,2]"
-- result: []
FOREACH payload AS e DO e FROM "t/#"
----
-- failed: limit: more than 10000 outputs at 1:9
FOREACH [1..10001] AS e DO e FROM "t/#"
