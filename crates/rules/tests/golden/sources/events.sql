-- error:
-- | error[E0106]: unknown event source `$events/client/conected`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/client/conected"
-- |   |                      ^^^^^^^^^^^^^^^^^^^^^^^^^ did you mean `$events/client/connected`?
SELECT clientid FROM "$events/client/conected"
----
-- error:
-- | error[E0106]: unknown event source `$events/nothing/at/all`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/nothing/at/all"
-- |   |                      ^^^^^^^^^^^^^^^^^^^^^^^^
SELECT clientid FROM "$events/nothing/at/all"
----
-- error:
-- | error[E0106]: unknown event source `$events/schema_validation/failed`: weir has no schema validation
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/schema_validation/failed"
-- |   |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
SELECT clientid FROM "$events/schema_validation/failed"
----
-- error:
-- | error[E0106]: unknown event source `$events/message_transformation/failed`: weir has no message transformation
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/message_transformation/failed"
-- |   |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
SELECT clientid FROM "$events/message_transformation/failed"
----
-- error:
-- | error[E0105]: invalid topic filter: `#` must be the last level of a topic filter, and alone there
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/client/#/x"
-- |   |                      ^^^^^^^^^^^^^^^^^^^^
SELECT clientid FROM "$events/client/#/x"
----
-- error:
-- | error[E0106]: unknown event source `$events/foo/+`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$events/foo/+"
-- |   |                      ^^^^^^^^^^^^^^^
SELECT clientid FROM "$events/foo/+"
----
-- error:
-- | error[E0106]: `$bridges/mqtt` does not name a bridge as `type:name`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$bridges/mqtt"
-- |   |                      ^^^^^^^^^^^^^^^
SELECT clientid FROM "$bridges/mqtt"
----
-- error:
-- | error[E0106]: `$bridges/mqtt:` does not name a bridge as `type:name`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$bridges/mqtt:"
-- |   |                      ^^^^^^^^^^^^^^^^
SELECT clientid FROM "$bridges/mqtt:"
----
-- error:
-- | error[E0106]: `$sources/:x` does not name a bridge as `type:name`
-- |  --> 1:22
-- |   |
-- | 1 | SELECT clientid FROM "$sources/:x"
-- |   |                      ^^^^^^^^^^^^^
SELECT clientid FROM "$sources/:x"
----
-- result: not matched
-- warning:
-- | warning[W0001]: no source has a field `clientid`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT clientid FROM "$events/sys/alarm_activated"
-- |   |        ^^^^^^^^
SELECT clientid FROM "$events/sys/alarm_activated"
