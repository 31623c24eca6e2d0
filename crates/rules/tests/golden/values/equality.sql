-- result: [{"a":true,"b":true,"c":false,"d":true,"e":false,"f":true,"g":false,"h":true,"i":true,"j":true,"k":false}]
-- warning:
-- | warning[W0003]: `= NULL` is never true for a missing value
-- |  --> 1:134
-- |   |
-- | 1 | …x' AS e, TRUE = 'true' AS f, TRUE = 1 AS g, TRUE <> 1 AS h, NULL = NULL AS i, NULL <> 1 AS j, NULL < 1 AS k FROM "t/#"
-- |   |                                                              ^^^^^^^^^^^ write IS NULL or IS NOT NULL
-- warning:
-- | warning[W0003]: `<> NULL` is never true for a missing value
-- |  --> 1:152
-- |   |
-- | 1 | …rue' AS f, TRUE = 1 AS g, TRUE <> 1 AS h, NULL = NULL AS i, NULL <> 1 AS j, NULL < 1 AS k FROM "t/#"
-- |   |                                                              ^^^^^^^^^ write IS NULL or IS NOT NULL
-- warning:
-- | warning[W0003]: `< NULL` is never true for a missing value
-- |  --> 1:168
-- |   |
-- | 1 | …= 1 AS g, TRUE <> 1 AS h, NULL = NULL AS i, NULL <> 1 AS j, NULL < 1 AS k FROM "t/#"
-- |   |                                                              ^^^^^^^^ write IS NULL or IS NOT NULL
SELECT 1 = 1.0 AS a, 1 = '1' AS b, '1' = '1.0' AS c, 1 <> 'x' AS d, 1 < 'x' AS e, TRUE = 'true' AS f, TRUE = 1 AS g, TRUE <> 1 AS h, NULL = NULL AS i, NULL <> 1 AS j, NULL < 1 AS k FROM "t/#"
----
-- payload: {"s":null,"l":[1,2],"o":{"a":1,"b":2}}
-- result: [{"a":true,"b":false,"c":true,"d":false,"e":false,"f":true,"g":true,"h":false,"i":true,"j":false,"k":true,"l":false,"m":false}]
SELECT payload.x = payload.y AS a, payload.x <> 'ok' AS b, payload.x <= payload.y AS c, payload.x < payload.y AS d, payload.s = 'null' AS e, payload.s <> 'null' AS f,
  payload.l = [1.0, 2] AS g, payload.l = ['1', 2] AS h, payload.o = {'b': 2, 'a': 1} AS i, payload.l < [3] AS j, payload.l <> payload.o AS k, payload.x = payload.s AS l, payload.x <> payload.s AS m
FROM "t/#"
----
-- result: [{"a":false,"b":true,"c":true,"d":false,"e":true}]
SELECT 9007199254740993 = 9007199254740992.0 AS a, 9007199254740993 > 9007199254740992.0 AS b, '10' < '9' AS c, 10 < '9' AS d, 'a' < 'b' AS e FROM "t/#"
----
-- result: [{"a":true,"b":true,"c":true}]
SELECT 1 == 1 AS a, 1 != 2 AS b, 1 <> 2 AS c FROM "t/#"
