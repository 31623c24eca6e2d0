-- result: [{"a":true,"b":true,"c":true,"d":true,"e":true,"f":false,"g":false,"h":true,"i":false,"j":true,"k":true}]
-- warning:
-- | warning[W0013]: `IN` never holds: what follows it is an integer
-- |  --> 1:105
-- |   |
-- | 1 | …NOT IN (1, 2) AS c, 1 IN [1, 2] AS d, 3 NOT IN [1, 2] AS e, 1 IN 5 AS f, 1 NOT IN 5 AS g, 2 BETWEEN 1 AND 3 AS h, 2 NOT …
-- |   |                                                              ^^^^^^ write `IN (5)`
-- warning:
-- | warning[W0013]: `NOT IN` never holds: what follows it is an integer
-- |  --> 1:118
-- |   |
-- | 1 | … AS c, 1 IN [1, 2] AS d, 3 NOT IN [1, 2] AS e, 1 IN 5 AS f, 1 NOT IN 5 AS g, 2 BETWEEN 1 AND 3 AS h, 2 NOT BETWEEN 1 AND…
-- |   |                                                              ^^^^^^^^^^ write `NOT IN (5)`
SELECT 1 IN (1, 2) AS a, 1 IN ('1') AS b, 3 NOT IN (1, 2) AS c, 1 IN [1, 2] AS d, 3 NOT IN [1, 2] AS e, 1 IN 5 AS f, 1 NOT IN 5 AS g, 2 BETWEEN 1 AND 3 AS h, 2 NOT BETWEEN 1 AND 3 AS i, '2' BETWEEN 1 AND 3 AS j, NULL IN (NULL) AS k FROM "t/#"
----
-- payload: {"l":[1,"a"]}
-- result: [{"a":false,"b":false,"c":true,"d":true,"e":false,"f":false,"g":true}]
SELECT payload.x IN (1) AS a, payload.x NOT IN (1) AS b, 'a' IN payload.l AS c, '1' IN payload.l AS d, payload.x BETWEEN 1 AND 2 AS e, payload.x NOT BETWEEN 1 AND 2 AS f, payload.l IN ([1, 'a']) AS g FROM "t/#"
----
-- error:
-- | error[E0002]: expected an expression, found `)`
-- |  --> 1:14
-- |   |
-- | 1 | SELECT 1 IN () AS a FROM "t/#"
-- |   |              ^
SELECT 1 IN () AS a FROM "t/#"
