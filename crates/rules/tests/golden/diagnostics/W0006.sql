-- result: not matched
-- warning:
-- | warning[W0006]: a source without quotes
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM sensors
-- |   |                 ^^^^^^^ write "sensors"
SELECT qos FROM sensors
