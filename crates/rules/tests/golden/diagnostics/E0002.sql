-- error:
-- | error[E0002]: expected an expression, found `FROM`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT qos, FROM "t/#"
-- |   |             ^^^^ nothing follows the comma before it
SELECT qos, FROM "t/#"
----
-- error:
-- | error[E0002]: comparisons do not chain
-- |  --> 1:37
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE 1 < qos < 3
-- |   |                                     ^ join them with AND, or use parentheses
SELECT qos FROM "t/#" WHERE 1 < qos < 3
