-- payload: {"b":true}
-- result: [{"x":1}]
-- payload: {"b":false}
-- result: []
-- payload: {"b":null}
-- result: []
-- payload: {}
-- result: []
-- payload: {"b":1}
-- failed: not_boolean: a condition is a boolean, not an integer at 1:32, value 1
-- payload: {"b":"true"}
-- failed: not_boolean: a condition is a boolean, not a string at 1:32, value true
SELECT 1 AS x FROM "t/#" WHERE payload.b
----
-- payload: {}
-- result: [{"a":false,"c":true,"f":false}]
SELECT payload.b AND FALSE AS a, payload.b AND TRUE AS b, payload.b OR TRUE AS c, payload.b OR FALSE AS d, NOT payload.b AS e, FALSE AND payload.b AS f FROM "t/#"
----
-- The right side is not evaluated once the left decides.
-- payload: {}
-- result: [{"a":false,"b":true}]
SELECT FALSE AND payload.x * 2 > 1 AS a, TRUE OR payload.x * 2 > 1 AS b FROM "t/#"
----
-- payload: {}
-- result: []
SELECT 1 AS x FROM "t/#" WHERE NOT (payload.a AND payload.b)
----
-- error:
-- | error[E0108]: a condition is a boolean, not an integer
-- |  --> 1:32
-- |   |
-- | 1 | SELECT 1 AS x FROM "t/#" WHERE 1
-- |   |                                ^
SELECT 1 AS x FROM "t/#" WHERE 1
----
-- error:
-- | error[E0108]: a condition is a boolean, not a string
-- |  --> 1:32
-- |   |
-- | 1 | SELECT 1 AS x FROM "t/#" WHERE 'a' OR qos = 1
-- |   |                                ^^^
SELECT 1 AS x FROM "t/#" WHERE 'a' OR qos = 1
----
-- result: [{"x":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:32
-- |   |
-- | 1 | SELECT 1 AS x FROM "t/#" WHERE TRUE
-- |   |                                ^^^^
SELECT 1 AS x FROM "t/#" WHERE TRUE
----
-- result: []
-- warning:
-- | warning[W0009]: the condition never holds
-- |  --> 1:32
-- |   |
-- | 1 | SELECT 1 AS x FROM "t/#" WHERE 1 = 2
-- |   |                                ^^^^^
SELECT 1 AS x FROM "t/#" WHERE 1 = 2
----
-- failed: not_boolean: a condition is a boolean, not a string at 1:32, value C1
-- warning:
-- | warning[W0012]: this is a string, and a condition is a boolean
-- |  --> 1:32
-- |   |
-- | 1 | SELECT 1 AS x FROM "t/#" WHERE upper(clientid)
-- |   |                                ^^^^^^^^^^^^^^^ compare it with something
SELECT 1 AS x FROM "t/#" WHERE upper(clientid)
