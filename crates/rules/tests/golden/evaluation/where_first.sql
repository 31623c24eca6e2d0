-- An item that would fail is not computed when WHERE does not hold.
-- payload: {"a":1,"t":20}
-- result: []
-- payload: {"a":"x","t":40}
-- failed: type: `*` takes numbers, not a string at 1:8, value x
-- payload: {"a":7,"t":40}
-- result: [{"twice":14}]
SELECT payload.a * 2 AS twice FROM "t/#" WHERE payload.t > 30
----
-- An item that WHERE mentions is computed once.
-- payload: {}
-- result: [{"n":1}]
SELECT kv_store_incr('n') AS n FROM "t/1" WHERE n > 0
----
-- payload: {"temp":41.5}
-- result: [{"payload":{"temp":41.5}}]
-- payload: {"temp":30}
-- result: []
-- payload: {}
-- result: []
-- payload: {"temp":"31"}
-- result: [{"payload":{"temp":"31"}}]
SELECT payload.temp FROM "t/+" WHERE payload.temp > 30
