-- payload: {"a":{"b":[10,{"c":"x"}]}}
-- result: [{"v":[10,{"c":"x"}]}]
-- payload: not json
-- failed: payload_decode: the payload is not JSON: expected ident at line 1 column 2 at 1:8, value not json
-- payload: 5
-- result: [{}]
-- payload: null
-- result: [{}]
-- payload: "text"
-- result: [{}]
-- payload: "{\"a\":{\"b\":7}}"
-- result: [{"v":7}]
-- payload: [1]
-- result: [{}]
SELECT payload.a.b AS v FROM "t/#"
----
-- Without a look inside nothing is decoded.
-- payload: not json
-- result: [{"payload":"not json"}]
SELECT payload FROM "t/#"
----
-- payload: {"l":[10,20,30],"n":2}
-- result: [{"a":10,"b":30,"e":20}]
-- warning:
-- | warning[W0015]: there is no element 0: this is always undefined
-- |  --> 1:57
-- |   |
-- | 1 | SELECT payload.l[1] AS a, payload.l[-1] AS b, payload.l[0] AS c, payload.l[9] AS d, payload.l[payload.n] AS e, payload.l…
-- |   |                                                         ^ elements are counted from 1, or from the end with -1
SELECT payload.l[1] AS a, payload.l[-1] AS b, payload.l[0] AS c, payload.l[9] AS d, payload.l[payload.n] AS e, payload.l['x'] AS f, payload.l[1.5] AS g, payload.n[1] AS h, payload.l.x AS i FROM "t/#"
----
-- payload: [1,{"x":2}]
-- result: [{"a":1,"b":2,"c":2}]
SELECT payload[1] AS a, payload[2].x AS b, payload[-1]['x'] AS c FROM "t/#"
----
-- payload: {"l":[1,2,3,4,5],"n":7}
-- result: [{"a":[2,3],"b":[4,5],"c":[4,5],"d":[1],"e":[]}]
SELECT payload.l[2..3] AS a, payload.l[-2..-1] AS b, payload.l[4..99] AS c, payload.l[-99..1] AS d, payload.l[3..2] AS e FROM "t/#"
----
-- payload: {"n":7}
-- failed: not_array: a range needs an array at 1:17, value 7
SELECT payload.n[1..2] AS a FROM "t/#"
----
-- payload: {}
-- failed: not_array: a range needs an array at 1:17, value undefined
SELECT payload.n[1..2] AS a FROM "t/#"
----
-- error:
-- | error[E0107]: elements are counted from 1, or from the end with -1
-- |  --> 1:17
-- |   |
-- | 1 | SELECT payload.l[0..2] AS a FROM "t/#"
-- |   |                 ^^^^^^
SELECT payload.l[0..2] AS a FROM "t/#"
----
-- A string that holds JSON is decoded for the step.
-- payload: {"s":"{\"x\":[5,6]}","t":"plain"}
-- result: [{"a":6,"lit":"{\"k\":1}","k":1,"d":[5,6],"e":[5,6],"f":5}]
SELECT payload.s.x[2] AS a, payload.t.x AS b, '{"k":1}' AS lit, lit.k AS k, json_decode(payload.s).x AS d, (payload.s).x AS e, [4, 5][2] AS f FROM "t/#"
----
-- payload: {"a":null}
-- result: [{"n":null,"r":false,"m":"rule"}]
SELECT payload.a AS n, payload.a.b AS u, pub_props.'User-Property'.k AS p, flags.retain AS r, metadata.rule_id AS m FROM "t/#"
----
-- payload: {"a":{"x":1},"a":{"y":2}}
-- result: [{"y":2}]
SELECT payload.a.x AS x, payload.a.y AS y FROM "t/#"
----
-- Skipped parts must be right too.
-- payload: {"a":1,"b":"\ud800"}
-- failed: payload_decode: the payload is not JSON: a lone surrogate (half of a pair of \u escapes) at line 1 column 19 at 1:8, value {"a":1,"b":"\ud800"}
-- payload: {"a":1,"b":[1,]}
-- failed: payload_decode: the payload is not JSON: trailing comma at line 1 column 15 at 1:8, value {"a":1,"b":[1,]}
-- payload: {"a":1} x
-- failed: payload_decode: the payload is not JSON: trailing characters at line 1 column 9 at 1:8, value {"a":1} x
SELECT payload.a AS a FROM "t/#"
