-- result: [{"a":[],"b":[1,"x",[2]],"c":{},"d":{"k":1,"n":{}},"e":[1,2,3,4,5],"f":[],"g":[-1,0,1],"h":1}]
SELECT [] AS a, [1, 'x', [2]] AS b, {} AS c, {'k': qos, 'n': {'m': null()}} AS d, [1..5] AS e, [3..2] AS f, [-1..1] AS g, length([null()]) AS h FROM "t/#"
----
-- error:
-- | error[E0107]: the range counts up, but 5 lies after 2
-- |  --> 1:8
-- |   |
-- | 1 | SELECT [5..2] AS a FROM "t/#"
-- |   |        ^^^^^^
SELECT [5..2] AS a FROM "t/#"
----
-- error:
-- | error[E0110]: the range has more than 1000000 elements
-- |  --> 1:8
-- |   |
-- | 1 | SELECT [1..99999999999] AS a FROM "t/#"
-- |   |        ^^^^^^^^^^^^^^^^
SELECT [1..99999999999] AS a FROM "t/#"
----
-- result: [{"a":{"a":2}}]
SELECT {'a': 1, 'a': 2} AS a FROM "t/#"
