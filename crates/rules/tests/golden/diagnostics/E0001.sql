-- error:
-- | error[E0001]: unterminated string
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 'open FROM "t/#"
-- |   |        ^ it opens here
SELECT 'open FROM "t/#"
----
-- error:
-- | error[E0001]: `“` is no quote of SQL
-- |  --> 1:40
-- |   |
-- | 1 | SELECT qos FROM "t/#" WHERE clientid = “a”
-- |   |                                        ^^^ write 'a'
SELECT qos FROM "t/#" WHERE clientid = “a”
----
-- error:
-- | error[E0001]: unterminated comment
-- |  --> 1:23
-- |   |
-- | 1 | SELECT qos FROM "t/#" /* all of them
-- |   |                       ^^ it opens here
SELECT qos FROM "t/#" /* all of them
----
-- error:
-- | error[E0001]: a number cannot be followed by `abc`
-- |  --> 1:10
-- |   |
-- | 1 | SELECT 12abc AS a, 0x1F AS b FROM "t/#"
-- |   |          ^^^
-- error:
-- | error[E0001]: there are no strings or numbers that start with `0x`
-- |  --> 1:20
-- |   |
-- | 1 | SELECT 12abc AS a, 0x1F AS b FROM "t/#"
-- |   |                    ^^^^ write it in decimal
SELECT 12abc AS a, 0x1F AS b FROM "t/#"
----
-- error:
-- | error[E0001]: `#` has no meaning here
-- |  --> 1:12
-- |   |
-- | 1 | SELECT qos # 1 FROM "t/#"
-- |   |            ^ a comment starts with `--`
SELECT qos # 1 FROM "t/#"
----
-- A byte order mark, as some editors write.
-- error:
-- | error[E0001]: an invisible character, U+FEFF
-- |  --> 1:1
-- |   |
-- | 1 | ﻿SELECT qos FROM "t/#"
-- |   | ^ remove it, or write an ordinary space
﻿SELECT qos FROM "t/#"
