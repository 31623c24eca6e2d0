-- error:
-- | error[E0109]: `*` cannot have an alias
-- |  --> 1:10
-- |   |
-- | 1 | SELECT * AS x FROM "t/#"
-- |   |          ^^
SELECT * AS x FROM "t/#"
----
-- error:
-- | error[E0109]: the name of FOREACH's element must be a single name
-- |  --> 1:25
-- |   |
-- | 1 | FOREACH payload.list AS a.b FROM "t/#"
-- |   |                         ^^^
FOREACH payload.list AS a.b FROM "t/#"
