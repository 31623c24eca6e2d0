-- result: [{"a":"it's","b":"\\d+\\n","c":"\n","d":"ü😀","e":""}]
SELECT 'it''s' AS a, '\d+\n' AS b, unescape('\n') AS c, 'ü😀' AS d, '' AS e FROM "t/#"
----
-- error:
-- | error[E0001]: there are no strings or numbers that start with `N'`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT N'x' AS a FROM "t/#"
-- |   |        ^^^^ strings are Unicode already: leave the `N` out
SELECT N'x' AS a FROM "t/#"
----
-- error:
-- | error[E0001]: there are no strings or numbers that start with `X'`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT X'00' AS a FROM "t/#"
-- |   |        ^^^^^ write `hexstr2bin('…')`
SELECT X'00' AS a FROM "t/#"
----
-- error:
-- | error[E0001]: there are no prefixed strings
-- |  --> 1:9
-- |   |
-- | 1 | SELECT E'x' AS a FROM "t/#"
-- |   |         ^^^ `unescape('…')` reads backslash escapes
SELECT E'x' AS a FROM "t/#"
----
-- error:
-- | error[E0001]: unterminated string
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 'open FROM "t/#"
-- |   |        ^ it opens here
SELECT 'open FROM "t/#"
----
-- error:
-- | error[E0001]: unterminated comment
-- |  --> 1:10
-- |   |
-- | 1 | SELECT a /* open FROM "t/#"
-- |   |          ^^ it opens here
SELECT a /* open FROM "t/#"
----
-- error:
-- | error[E0001]: unterminated quoted name
-- |  --> 1:15
-- |   |
-- | 1 | SELECT a FROM "t/#
-- |   |               ^ it opens here
SELECT a FROM "t/#
----
-- result: [{}]
-- warning:
-- | warning[W0001]: no source has a field `$x`
-- |  --> 1:8
-- |   |
-- | 1 | SELECT $x AS d FROM "t/#"
-- |   |        ^^ is `payload.$x` meant?
SELECT $x AS d FROM "t/#"
