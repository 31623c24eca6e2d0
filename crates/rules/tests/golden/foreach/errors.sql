-- error:
-- | error[E0109]: the name of FOREACH's element must be a single name
-- |  --> 1:22
-- |   |
-- | 1 | FOREACH payload.s AS a.b DO item FROM "t/#"
-- |   |                      ^^^
-- warning:
-- | warning[W0001]: no source has a field `item`
-- |  --> 1:29
-- |   |
-- | 1 | FOREACH payload.s AS a.b DO item FROM "t/#"
-- |   |                             ^^^^ the element is called `a` here
FOREACH payload.s AS a.b DO item FROM "t/#"
----
-- error:
-- | error[E0002]: expected an expression, found `*`
-- |  --> 1:9
-- |   |
-- | 1 | FOREACH * FROM "t/#"
-- |   |         ^ FOREACH takes named values and a collection
FOREACH * FROM "t/#"
----
-- error:
-- | error[E0109]: `*` cannot have an alias
-- |  --> 1:24
-- |   |
-- | 1 | FOREACH payload.s DO * AS x FROM "t/#"
-- |   |                        ^^
FOREACH payload.s DO * AS x FROM "t/#"
----
-- error:
-- | error[E0002]: expected `FROM`, found `DO`
-- |  --> 1:35
-- |   |
-- | 1 | FOREACH payload.s INCASE item > 1 DO item FROM "t/#"
-- |   |                                   ^^ it belongs to FOREACH
FOREACH payload.s INCASE item > 1 DO item FROM "t/#"
----
-- error:
-- | error[E0101]: no FROM source
-- |  --> 1:1
-- |   |
-- | 1 | FOREACH payload.s
-- |   | ^^^^^^^ a rule says FROM which topics or events
FOREACH payload.s
