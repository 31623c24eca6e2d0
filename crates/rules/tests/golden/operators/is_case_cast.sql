-- payload: {"n":null,"t":true}
-- result: [{"a":true,"b":true,"c":false,"d":true,"e":true,"f":false,"g":true,"h":false,"i":true}]
SELECT payload.x IS NULL AS a, payload.n IS NULL AS b, payload.n IS NOT NULL AS c, payload.t IS TRUE AS d, payload.t IS NOT FALSE AS e, payload.x IS TRUE AS f, payload.x IS NOT TRUE AS g, is_null(payload.n) AS h, is_null_var(payload.n) AS i FROM "t/#"
----
-- payload: {"t":5}
-- result: [{"a":"warm","b":"five","c":1}]
-- payload: {"t":50}
-- result: [{"a":"hot","b":"other"}]
-- payload: {}
-- result: [{"b":"other"}]
SELECT CASE WHEN payload.t > 40 THEN 'hot' WHEN payload.t > 4 THEN 'warm' END AS a, CASE payload.t WHEN 5 THEN 'five' ELSE 'other' END AS b, CASE payload.t WHEN '5' THEN 1 END AS c FROM "t/#"
----
-- Branches that are not taken are not evaluated.
-- payload: {}
-- result: [{"a":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:18
-- |   |
-- | 1 | SELECT CASE WHEN TRUE THEN 1 ELSE payload.x * 2 END AS a FROM "t/#"
-- |   |                  ^^^^
SELECT CASE WHEN TRUE THEN 1 ELSE payload.x * 2 END AS a FROM "t/#"
----
-- payload: {"x":1}
-- failed: not_boolean: a condition is a boolean, not an integer at 1:18, value 1
SELECT CASE WHEN payload.x THEN 1 END AS a FROM "t/#"
----
-- result: [{"a":5,"b":5.0,"c":"5","d":true}]
SELECT CAST('5' AS INT) AS a, CAST(5 AS float) AS b, cast(5 AS VARCHAR) AS c, CAST(1 AS BOOLEAN) AS d FROM "t/#"
----
-- error:
-- | error[E0003]: cannot cast to `DECIMAL`
-- |  --> 1:20
-- |   |
-- | 1 | SELECT CAST(qos AS DECIMAL) AS a FROM "t/#"
-- |   |                    ^^^^^^^ INT, FLOAT, STRING or BOOLEAN
SELECT CAST(qos AS DECIMAL) AS a FROM "t/#"
----
-- failed: bad_argument: argument 1 is not the text of a number at 1:8, value c1
SELECT CAST(clientid AS INT) AS a FROM "t/#"
----
-- result: []
-- warning:
-- | warning[W0003]: `= NULL` is never true for a missing value
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE username = NULL
-- |   |                             ^^^^^^^^^^^^^^^ write IS NULL or IS NOT NULL
SELECT qos FROM "t/#" WHERE username = NULL
----
-- result: []
-- warning:
-- | warning[W0003]: `<> NULL` is never true for a missing value
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE username <> NULL
-- |   |                             ^^^^^^^^^^^^^^^^ write IS NULL or IS NOT NULL
SELECT qos FROM "t/#" WHERE username <> NULL
