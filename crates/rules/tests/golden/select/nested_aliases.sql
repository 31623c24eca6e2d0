-- result: [{"a":{"b":{"c":1,"d":2},"x y":3,"5":4}}]
SELECT 1 AS a.b.c, 2 AS a.b.d, 3 AS a.'x y', 4 AS a.5 FROM "t/#"
----
-- result: [{"a":[0,1,9,8,4]}]
SELECT [1, 2, 3] AS a, 9 AS a[2], 8 AS a[-1], 7 AS a[5], 0 AS a[0], 4 AS a[-0] FROM "t/#"
----
-- result: [{"a":{"b":2},"c":[3],"d":{"e":[{"f":4}]}}]
SELECT 1 AS a, 2 AS a.b, 3 AS c[1], 4 AS d.e[0].f FROM "t/#"
----
-- payload: {"t":1}
-- result: [{"payload":{"t":1,"seen":1}}]
-- payload: nope
-- failed: payload_decode: not JSON: expected ident at line 1 column 2 at 1:17, value nope
SELECT payload, 1 AS payload.seen FROM "t/#"
----
-- result: [{"b":2}]
-- warning:
-- | warning[W0008]: `a` is assigned twice
-- |  --> 1:26
-- |   |
-- | 1 | SELECT 1 AS a, null() AS a, 2 AS b FROM "t/#"
-- |   |                          ^ the last one wins
SELECT 1 AS a, null() AS a, 2 AS b FROM "t/#"
----
-- result: [{"a":{"c":1}}]
-- warning:
-- | warning[W0008]: `a.b` is assigned twice
-- |  --> 1:28
-- |   |
-- | 1 | SELECT 1 AS a.b, null() AS a.b, 1 AS a.c FROM "t/#"
-- |   |                            ^^^ the last one wins
SELECT 1 AS a.b, null() AS a.b, 1 AS a.c FROM "t/#"
----
-- error:
-- | error[E0109]: `*` cannot have an alias
-- |  --> 1:10
-- |   |
-- | 1 | SELECT * AS a FROM "t/#"
-- |   |          ^^
SELECT * AS a FROM "t/#"
----
-- error:
-- | error[E0002]: expected a name for the alias, found `5`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT 1 AS 5 FROM "t/#"
-- |   |             ^
SELECT 1 AS 5 FROM "t/#"
----
-- error:
-- | error[E0002]: expected an integer, found `x`
-- |  --> 1:15
-- |   |
-- | 1 | SELECT 1 AS a[x] FROM "t/#"
-- |   |               ^
SELECT 1 AS a[x] FROM "t/#"
