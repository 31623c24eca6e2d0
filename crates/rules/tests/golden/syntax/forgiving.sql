-- White space, comments and a semicolon.
-- payload: {"a":{"b":1}}
-- result: [{"v":1}]
SELECT	payload . a . b AS v /* a
comment */ FROM -- and another
"t/#"
;
----
-- payload: {"a":1}
-- warning:
-- | warning[W0005]: an alias without AS
-- |  --> 1:18
-- |   |
-- | 1 | SELECT payload.a a1, payload.a 'x' FROM "t/#"
-- |   |                  ^^ write `AS a1`
-- error:
-- | error[E0002]: expected `,` or `FROM`, found `'x'`
-- |  --> 1:32
-- |   |
-- | 1 | SELECT payload.a a1, payload.a 'x' FROM "t/#"
-- |   |                                ^^^ is a comma missing before it?
SELECT payload.a a1, payload.a 'x' FROM "t/#"
----
-- error:
-- | error[E0002]: expected a name for the alias, found `FROM`
-- |  --> 1:15
-- |   |
-- | 1 | SELECT qos AS FROM "t/#"
-- |   |               ^^^^
SELECT qos AS FROM "t/#"
----
-- result: [{"a":{"b":{"c":1}},"x y":{"z":1}}]
SELECT qos AS a.b.c, 1 AS "x y"."z" FROM "t/#"
----
-- Each mistake is found, in its own place.
-- error:
-- | error[E0002]: expected an expression, found `AS`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT (1 + AS a, upper(] AS b, [1, 2 AS c, 3 AS d
-- |   |             ^^ nothing follows the `+` before it
-- error:
-- | error[E0002]: expected an expression, found the end of the statement
-- |  --> 2:24
-- |   |
-- | 2 | FROM "t/#" WHERE (qos =
-- |   |                        ^ nothing follows the `=` before it
SELECT (1 + AS a, upper(] AS b, [1, 2 AS c, 3 AS d
FROM "t/#" WHERE (qos =
----
-- result: [{"c":7,"d":5}]
SELECT nth(1, [1, 2, 3])[1] AS a, upper(clientid).x AS b, {'k': [7]}.k[1] AS c, '[5]'[1] AS d FROM "t/#"
