-- Without DO: all fields, the aliases, the element.
-- event: $bridges/mqtt:hq
-- fields: {"payload":"{\"s\":[1,2],\"k\":3}"}
-- result: [{"payload":"{\"s\":[1,2],\"k\":3}","event":"$bridges/mqtt:hq","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"$bridges/mqtt:hq","matched":"$bridges/mqtt:hq"},"k":3,"e":1},{"payload":"{\"s\":[1,2],\"k\":3}","event":"$bridges/mqtt:hq","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"$bridges/mqtt:hq","matched":"$bridges/mqtt:hq"},"k":3,"e":2}]
FOREACH payload.k AS k, payload.s AS e FROM "$bridges/mqtt:hq"
----
-- event: $bridges/mqtt:hq
-- fields: {"payload":"{\"s\":[1,2],\"k\":3}"}
-- result: [{"payload":"{\"s\":[1,2],\"k\":3}","event":"$bridges/mqtt:hq","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"$bridges/mqtt:hq","matched":"$bridges/mqtt:hq"},"item":1,"twice":2},{"payload":"{\"s\":[1,2],\"k\":3}","event":"$bridges/mqtt:hq","timestamp":1700000000123,"node":"weir@test","metadata":{"rule_id":"rule","trigger":"$bridges/mqtt:hq","matched":"$bridges/mqtt:hq"},"item":2,"twice":4}]
FOREACH payload.s DO *, item * 2 AS twice FROM "$bridges/mqtt:hq"
----
-- DO aliases so far, the element, the other aliases, the fields.
-- payload: {"s":[{"clientid":"inner"}],"q":5}
-- result: [{"clientid":"inner","now":"inner","q":5}]
-- warning:
-- | warning[W0011]: the alias hides the field `qos`, which is used later
-- |  --> 1:22
-- |   |
-- | 1 | FOREACH payload.q AS qos, payload.s AS e DO e.clientid AS clientid, clientid AS now, qos AS q FROM "t/#"
-- |   |                      ^^^
-- |   = help: another name for the alias keeps both in reach
-- warning:
-- | warning[W0011]: the alias hides the field `clientid`, which is used later
-- |  --> 1:59
-- |   |
-- | 1 | FOREACH payload.q AS qos, payload.s AS e DO e.clientid AS clientid, clientid AS now, qos AS q FROM "t/#"
-- |   |                                                           ^^^^^^^^
-- |   = help: another name for the alias keeps both in reach
FOREACH payload.q AS qos, payload.s AS e DO e.clientid AS clientid, clientid AS now, qos AS q FROM "t/#"
----
-- The item before the collection sees no collection, later ones see earlier ones.
-- payload: {"a":[3,4]}
-- result: [{"sum":6},{"sum":7}]
FOREACH payload.a AS l, l[1] AS first, l AS e DO e + first AS sum FROM "t/#"
----
-- A name of FOREACH that fails is an error even when no output uses it.
-- payload: {"s":[]}
-- failed: type: `*` takes numbers, not undefined at 1:9, value undefined
FOREACH payload.x * 2 AS y, payload.s AS e DO e FROM "t/#"
----
-- WHERE comes first.
-- payload: {"s":[1]}
-- result: []
FOREACH payload.x * 2 AS y, payload.s AS e DO e FROM "t/#" WHERE qos = 0
----
-- An alias of payload is decoded only for the step.
-- payload: [1]
-- result: []
FOREACH payload AS p, p AS e DO e FROM "t/#"
----
-- payload: {"s":[1,null,{}]}
-- result: [{"e":1},{"e":{}}]
FOREACH payload.s AS e DO e INCASE e IS NOT NULL FROM "t/#"
----
-- A collection without an alias is `item` in WHERE only where no item before it has that name.
-- payload: {"x":9,"s":[1]}
-- result: [{"item":1}]
-- payload: {"x":1,"s":[1]}
-- result: []
FOREACH payload.x AS item, payload.s DO item FROM "t/#" WHERE item > 5
----
-- payload: {"x":9,"s":[1]}
-- result: [{"item":1}]
-- payload: {"x":1,"s":[1]}
-- result: []
FOREACH payload.x AS item.a, payload.s DO item FROM "t/#" WHERE item.a > 5
