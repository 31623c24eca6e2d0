-- result: not matched
-- warning:
-- | warning[W0007]: `a` stands in FROM twice
-- |  --> 1:22
-- |   |
-- | 1 | SELECT qos FROM "a", "a"
-- |   |                      ^^^
SELECT qos FROM "a", "a"
----
-- Both spellings of an event are one.
-- result: not matched
-- warning:
-- | warning[W0007]: `$events/client_connected` stands in FROM twice
-- |  --> 1:47
-- |   |
-- | 1 | SELECT event FROM "$events/client/connected", "$events/client_connected"
-- |   |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^ `$events/client/connected` is another spelling of it
SELECT event FROM "$events/client/connected", "$events/client_connected"
----
-- result: not matched
-- warning:
-- | warning[W0007]: `$sources/mqtt:hq` stands in FROM twice
-- |  --> 1:39
-- |   |
-- | 1 | SELECT event FROM "$bridges/mqtt:hq", "$sources/mqtt:hq"
-- |   |                                       ^^^^^^^^^^^^^^^^^^ `$bridges/mqtt:hq` is another spelling of it
SELECT event FROM "$bridges/mqtt:hq", "$sources/mqtt:hq"
----
-- What overlaps is not the same.
-- result: not matched
SELECT event FROM "$events/client/connected", "$events/client/+"
