-- error:
-- | error[E0003]: `|` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos | 2 AS a FROM "t/#"
-- |   |            ^ use `bitor`, or `||` to join texts
SELECT qos | 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `&` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos & 2 AS a FROM "t/#"
-- |   |            ^ use `bitand`
SELECT qos & 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `^` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos ^ 2 AS a FROM "t/#"
-- |   |            ^ use `bitxor`, or `power`
SELECT qos ^ 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `<<` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos << 2 AS a FROM "t/#"
-- |   |            ^^ use `bitsl`
SELECT qos << 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `>>` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos >> 2 AS a FROM "t/#"
-- |   |            ^^ use `bitsr`
SELECT qos >> 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `->` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos -> 2 AS a FROM "t/#"
-- |   |            ^^ use `qos[3]`
SELECT qos -> 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `->>` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos ->> 2 AS a FROM "t/#"
-- |   |            ^^^ use `qos[3]`
SELECT qos ->> 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `::` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos :: 2 AS a FROM "t/#"
-- |   |            ^^ use `CAST(x AS type)`
SELECT qos :: 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: XOR is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos XOR 2 AS a FROM "t/#"
-- |   |            ^^^ use `<>` between two conditions, `bitxor` between integers
SELECT qos XOR 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `:=` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos := 2 AS a FROM "t/#"
-- |   |            ^^ use `=`
SELECT qos := 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `<=>` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos <=> 2 AS a FROM "t/#"
-- |   |            ^^^ use `eq`, or `=`
SELECT qos <=> 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `~` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos ~ 2 AS a FROM "t/#"
-- |   |            ^ use `regex_match`, RLIKE, or `bitnot`
SELECT qos ~ 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `!` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos ! 2 AS a FROM "t/#"
-- |   |            ^ use NOT
SELECT qos ! 2 AS a FROM "t/#"
----
-- warning:
-- | warning[W0012]: this is a number, and a condition is a boolean
-- |  --> 1:8
-- |   |
-- | 1 | SELECT qos && 2 AS a FROM "t/#"
-- |   |        ^^^ compare it with something
-- error:
-- | error[E0003]: `&&` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos && 2 AS a FROM "t/#"
-- |   |            ^^ use AND
-- error:
-- | error[E0108]: a condition is a boolean, not an integer
-- |  --> 1:15
-- |   |
-- | 1 | SELECT qos && 2 AS a FROM "t/#"
-- |   |               ^
SELECT qos && 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `=>` is not supported
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos => 2 AS a FROM "t/#"
-- |   |            ^^ use `>=`
SELECT qos => 2 AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `~` is not supported
-- |  --> 1:8
-- |   |
-- | 1 | SELECT ~qos AS a FROM "t/#"
-- |   |        ^ use `bitnot`
SELECT ~qos AS a FROM "t/#"
----
-- error:
-- | error[E0003]: `!` is not supported
-- |  --> 1:8
-- |   |
-- | 1 | SELECT !retain AS a FROM "t/#"
-- |   |        ^ use NOT
SELECT !retain AS a FROM "t/#"
