-- payload: {"a":2}
-- result: [{"x":2,"y":20,"z":22}]
SELECT payload.a AS x, x * 10 AS y, x + y AS z FROM "t/#" WHERE z > 1
----
-- An item does not see its own alias.
-- result: [{"qos":2,"later":2}]
-- warning:
-- | warning[W0011]: the alias hides the field `qos`, which is used later
-- |  --> 1:19
-- |   |
-- | 1 | SELECT qos + 1 AS qos, qos AS later FROM "t/#"
-- |   |                   ^^^
-- |   = help: another name for the alias keeps both in reach
SELECT qos + 1 AS qos, qos AS later FROM "t/#"
----
-- When the alias leads nowhere, the field is tried.
-- payload: {"a":1,"b":2}
-- result: [{"payload":{"a":5},"a":5,"b":2}]
-- warning:
-- | warning[W0011]: the alias hides the field `payload`, which is used later
-- |  --> 1:20
-- |   |
-- | 1 | SELECT {'a': 5} AS payload, payload.a AS a, payload.b AS b FROM "t/#" WHERE payload.b = 2
-- |   |                    ^^^^^^^
-- |   = help: another name for the alias keeps both in reach
SELECT {'a': 5} AS payload, payload.a AS a, payload.b AS b FROM "t/#" WHERE payload.b = 2
----
-- result: [{"a":{"b":1,"c":2},"whole":{"b":1,"c":2},"c":2}]
SELECT 1 AS a.b, 2 AS a.c, a AS whole, a.c AS c FROM "t/#"
----
-- result: [{"l":[1,2],"now":[1,2]}]
SELECT [1] AS l, 2 AS l[-0], l AS now FROM "t/#" WHERE l[2] = 2
