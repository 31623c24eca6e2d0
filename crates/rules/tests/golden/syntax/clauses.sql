-- error:
-- | error[E0101]: no FROM source
-- |  --> 1:1
-- |   |
-- | 1 | SELECT qos
-- |   | ^^^^^^ a rule says FROM which topics or events
SELECT qos
----
-- error:
-- | error[E0002]: expected an expression, found `FROM`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT FROM "t/#"
-- |   |        ^^^^
SELECT FROM "t/#"
----
-- error:
-- | error[E0002]: expected an expression, found `FROM`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT qos, FROM "t/#"
-- |   |             ^^^^ nothing follows the comma before it
SELECT qos, FROM "t/#"
----
-- error:
-- | error[E0002]: expected a topic filter in double quotes, found the end of the statement
-- |  --> 1:16
-- |   |
-- | 1 | SELECT qos FROM
-- |   |                ^
SELECT qos FROM
----
-- error:
-- | error[E0002]: expected an expression, found the end of the statement
-- |  --> 1:28
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE
-- |   |                            ^
SELECT qos FROM "t/#" WHERE
----
-- error:
-- | error[E0003]: `WHERE` does not start a rule
-- |  --> 1:1
-- |   |
-- | 1 | WHERE qos = 1 SELECT qos FROM "t/#"
-- |   | ^^^^^ the order is SELECT … FROM … WHERE …
WHERE qos = 1 SELECT qos FROM "t/#"
----
-- error:
-- | error[E0002]: `FROM` cannot stand here
-- |  --> 1:37
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE qos = 1 FROM "x"
-- |   |                                     ^^^^ SELECT … FROM … WHERE …, or FOREACH … DO … INCASE … FROM … WHERE …
SELECT qos FROM "t/#" WHERE qos = 1 FROM "x"
----
-- error:
-- | error[E0003]: a rule is one statement: nothing may follow `;`
-- |  --> 1:24
-- |   |
-- | 1 | SELECT qos FROM "t/#"; SELECT 1
-- |   |                        ^^^^^^
SELECT qos FROM "t/#"; SELECT 1
----
-- error:
-- | error[E0002]: expected `SELECT` or `FOREACH`, found the end of the statement
-- |  --> 1:1
-- |   |
-- | 1 | 
-- |   | ^

----
-- error:
-- | error[E0002]: expected `)`, found `FROM`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT (qos FROM "t/#"
-- |   |             ^^^^
-- |   = help: `(` is open since 1:8
SELECT (qos FROM "t/#"
----
-- error:
-- | error[E0002]: expected `,` or `FROM`, found `)`
-- |  --> 1:11
-- |   |
-- | 1 | SELECT qos) FROM "t/#"
-- |   |           ^ no `(` is open here
SELECT qos) FROM "t/#"
----
-- error:
-- | error[E0002]: expected `,` or `)`, found `FROM`
-- |  --> 1:23
-- |   |
-- | 1 | SELECT upper(clientid FROM "t/#" WHERE qos = = 1
-- |   |                       ^^^^
-- |   = help: `(` is open since 1:13
-- error:
-- | error[E0002]: expected an expression, found `=`
-- |  --> 1:46
-- |   |
-- | 1 | SELECT upper(clientid FROM "t/#" WHERE qos = = 1
-- |   |                                              ^ write `=`
SELECT upper(clientid FROM "t/#" WHERE qos = = 1
----
-- error:
-- | error[E0002]: `DO` cannot stand here
-- |  --> 1:28
-- |   |
-- | 1 | FOREACH payload FROM "t/#" DO item
-- |   |                            ^^ SELECT … FROM … WHERE …, or FOREACH … DO … INCASE … FROM … WHERE …
FOREACH payload FROM "t/#" DO item
----
-- warning:
-- | warning[W0001]: no source has a field `a`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT a b c FROM "t/#"
-- |   |        ^ is `payload.a` meant?
-- warning:
-- | warning[W0005]: an alias without AS
-- |  --> 1:10
-- |   |
-- | 1 | SELECT a b c FROM "t/#"
-- |   |          ^ write `AS b`
-- error:
-- | error[E0002]: expected `,` or `FROM`, found `c`
-- |  --> 1:12
-- |   |
-- | 1 | SELECT a b c FROM "t/#"
-- |   |            ^ is a comma missing before it?
-- warning:
-- | warning[W0001]: no source has a field `c`
-- |  --> 1:12
-- |   |
-- | 1 | SELECT a b c FROM "t/#"
-- |   |            ^ is `payload.c` meant?
SELECT a b c FROM "t/#"
----
-- error:
-- | error[E0002]: expected `WHEN`, `ELSE` or `END`, found `FROM`
-- |  --> 1:31
-- |   |
-- | 1 | SELECT CASE qos WHEN 1 THEN 2 FROM "t/#"
-- |   |                               ^^^^
SELECT CASE qos WHEN 1 THEN 2 FROM "t/#"
----
-- error:
-- | error[E0002]: expected `WHEN`, found `END`
-- |  --> 1:17
-- |   |
-- | 1 | SELECT CASE qos END FROM "t/#"
-- |   |                 ^^^
SELECT CASE qos END FROM "t/#"
----
-- error:
-- | error[E0002]: expected a key in single quotes, found `a`
-- |  --> 1:9
-- |   |
-- | 1 | SELECT {a: 1} AS x FROM "t/#"
-- |   |         ^ write 'a'
SELECT {a: 1} AS x FROM "t/#"
----
-- error:
-- | error[E0002]: expected `,` or `]`, found `FROM`
-- |  --> 1:14
-- |   |
-- | 1 | SELECT [1, 2 FROM "t/#"
-- |   |              ^^^^
-- |   = help: `[` is open since 1:8
SELECT [1, 2 FROM "t/#"
----
-- error:
-- | error[E0002]: expected a key, found `FROM`
-- |  --> 1:17
-- |   |
-- | 1 | SELECT payload. FROM "t/#"
-- |   |                 ^^^^
SELECT payload. FROM "t/#"
----
-- error:
-- | error[E0002]: expected `NULL`, `TRUE` or `FALSE`, found `2`
-- |  --> 1:13
-- |   |
-- | 1 | SELECT 1 IS 2 AS a FROM "t/#"
-- |   |             ^
SELECT 1 IS 2 AS a FROM "t/#"
----
-- error:
-- | error[E0002]: a topic filter stands in double quotes
-- |  --> 1:17
-- |   |
-- | 1 | SELECT qos FROM t/x
-- |   |                 ^^^ write "t/x"
SELECT qos FROM t/x
