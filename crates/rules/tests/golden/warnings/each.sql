-- result: [{}]
-- warning:
-- | warning[W0001]: no source has a field `temperature`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT temperature FROM "t/#"
-- |   |        ^^^^^^^^^^^
SELECT temperature FROM "t/#"
----
-- result: []
-- warning:
-- | warning[W0002]: `device` in double quotes is a name, and no field has it
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid = "device"
-- |   |                                        ^^^^^^^^ a string is written 'device'
SELECT qos FROM "t/#" WHERE clientid = "device"
----
-- result: []
-- warning:
-- | warning[W0003]: `= NULL` is never true for a missing value
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = NULL
-- |   |                             ^^^^^^^^^^ write IS NULL or IS NOT NULL
SELECT qos FROM "t/#" WHERE qos = NULL
----
-- result: [{"_v_1":2}]
-- warning:
-- | warning[W0004]: an expression without a name becomes `_v_1`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT qos + 1 FROM "t/#"
-- |   |        ^^^^^^^ give it a name with AS
SELECT qos + 1 FROM "t/#"
----
-- failed: payload_decode: the payload is not JSON: EOF while parsing a value at line 1 column 0 at 1:8, value 
-- warning:
-- | warning[W0005]: an alias without AS
-- |  --> 1:18
-- |   |
-- | 1 | SELECT payload.x y FROM "t/#"
-- |   |                  ^ write `AS y`
SELECT payload.x y FROM "t/#"
----
-- result: not matched
-- warning:
-- | warning[W0006]: a source without quotes
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM sensors
-- |   |                 ^^^^^^^ write "sensors"
SELECT qos FROM sensors
----
-- result: not matched
-- warning:
-- | warning[W0007]: `a` stands in FROM twice
-- |  --> 1:22
-- |   |
-- | 1 | SELECT qos FROM "a", "a"
-- |   |                      ^^^
SELECT qos FROM "a", "a"
----
-- result: [{"a":2}]
-- warning:
-- | warning[W0008]: `a` is assigned twice
-- |  --> 1:21
-- |   |
-- | 1 | SELECT 1 AS a, 2 AS a FROM "t/#"
-- |   |                     ^ the last one wins
SELECT 1 AS a, 2 AS a FROM "t/#"
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0009]: the condition always holds
-- |  --> 1:29
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 = 1
-- |   |                             ^^^^^
SELECT qos FROM "t/#" WHERE 1 = 1
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0010]: `#` matches every message
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "#"
-- |   |                 ^^^
SELECT qos FROM "#"
----
-- payload: {"topic":"x"}
-- result: [{"topic":"x"}]
-- warning:
-- | warning[W0011]: the alias hides the field `topic`, which is used later
-- |  --> 1:25
-- |   |
-- | 1 | SELECT payload.topic AS topic FROM "t/#" WHERE topic = 'x'
-- |   |                         ^^^^^
-- |   = help: another name for the alias keeps both in reach
SELECT payload.topic AS topic FROM "t/#" WHERE topic = 'x'
----
-- result: [{"clientid":"c1"}]
SELECT clientid AS clientid FROM "t/#" WHERE clientid = 'c1'
