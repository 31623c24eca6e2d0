-- error:
-- | error[E0105]: invalid topic filter: a topic filter must not be empty
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM ""
-- |   |                 ^^
SELECT qos FROM ""
----
-- error:
-- | error[E0105]: invalid topic filter: `#` must be the last level of a topic filter, and alone there
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "a/#/b"
-- |   |                 ^^^^^^^
SELECT qos FROM "a/#/b"
----
-- error:
-- | error[E0105]: invalid topic filter: `#` must be the last level of a topic filter, and alone there
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "a#"
-- |   |                 ^^^^
SELECT qos FROM "a#"
----
-- error:
-- | error[E0105]: invalid topic filter: `+` must be alone in its level of a topic filter
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "a+"
-- |   |                 ^^^^
SELECT qos FROM "a+"
----
-- error:
-- | error[E0105]: invalid topic filter: `+` must be alone in its level of a topic filter
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "a/b+/c"
-- |   |                 ^^^^^^^^
SELECT qos FROM "a/b+/c"
----
-- error:
-- | error[E0105]: `$share/…` has no meaning in FROM: a rule sees every message already
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "$share/g/t"
-- |   |                 ^^^^^^^^^^^^
SELECT qos FROM "$share/g/t"
----
-- error:
-- | error[E0105]: `$queue/…` has no meaning in FROM: a rule sees every message already
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "$queue/t"
-- |   |                 ^^^^^^^^^^
SELECT qos FROM "$queue/t"
----
-- error:
-- | error[E0105]: `$exclusive/…` has no meaning in FROM: a rule sees every message already
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM "$exclusive/t"
-- |   |                 ^^^^^^^^^^^^^^
SELECT qos FROM "$exclusive/t"
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
-- result: not matched
SELECT qos FROM "a//b"
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0007]: `t/#` stands in FROM twice
-- |  --> 1:24
-- |   |
-- | 1 | SELECT qos FROM "t/#", "t/#"
-- |   |                        ^^^^^
SELECT qos FROM "t/#", "t/#"
----
-- result: [{"qos":1}]
-- warning:
-- | warning[W0007]: `t/#` stands in FROM twice
-- |  --> 1:24
-- |   |
-- | 1 | SELECT qos FROM 't/#', "t/#"
-- |   |                        ^^^^^
SELECT qos FROM 't/#', "t/#"
