-- error:
-- | error[E0003]: ORDER BY is not supported
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" ORDER BY qos
-- |   |                       ^^^^^ a rule sees one message at a time; `array_sort` sorts an array
SELECT qos FROM "t/#" ORDER BY qos
----
-- error:
-- | error[E0003]: `&` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos & 1 AS a FROM "t/#"
-- |   |            ^ use `bitand`
SELECT qos & 1 AS a FROM "t/#"
