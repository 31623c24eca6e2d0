-- result: []
-- warning:
-- | warning[W0002]: `device` in double quotes is a name, and no field has it
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid = "device"
-- |   |                                        ^^^^^^^^ a string is written 'device'
SELECT qos FROM "t/#" WHERE clientid = "device"
