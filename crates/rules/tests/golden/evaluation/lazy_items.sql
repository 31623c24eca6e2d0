-- The failing item is not reached: WHERE decides by the other alias.
-- payload: {"a":1}
-- result: []
SELECT payload.b * 2 AS bad, payload.a AS a FROM "t/#" WHERE a = 2
----
-- An alias that WHERE needs fails there.
-- payload: {"a":1}
-- failed: type: `*` takes numbers, not undefined at 1:8, value undefined
SELECT payload.b * 2 AS bad FROM "t/#" WHERE bad > 1
----
-- One atomic evaluation: a later item that fails takes the earlier ones along.
-- payload: {}
-- failed: type: `DIV` takes integers, not undefined at 1:19, value undefined
SELECT 1 AS fine, 1 DIV payload.x AS bad FROM "t/#"
----
-- Only `put` in the second message sees what the first stored; proc_dict ends with its evaluation.
-- payload: 1
-- result: [{"after":"1"}]
-- payload: 2
-- result: [{"after":"2"}]
SELECT proc_dict_get('k') AS before, proc_dict_put('k', payload) AS put, proc_dict_get('k') AS after FROM "t/#"
