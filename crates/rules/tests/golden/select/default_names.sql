-- payload: {"a":{"b":1},"l":[1,2,3]}
-- result: [{"qos":1,"payload":{"a":{"b":1},"l":[1,2]},"text":"text","clientid":"c1","_v_6":2,"_v_8":1}]
-- warning:
-- | warning[W0004]: an expression without a name becomes `_v_6`
-- |  --> 1:60
-- |   |
-- | 1 | SELECT qos, payload.a.b, payload.l[2], 'text', (clientid), 1 + 1, payload.l[1..2], payload.l[qos] FROM "t/#"
-- |   |                                                            ^^^^^ give it a name with AS
-- warning:
-- | warning[W0004]: an expression without a name becomes `_v_8`
-- |  --> 1:84
-- |   |
-- | 1 | SELECT qos, payload.a.b, payload.l[2], 'text', (clientid), 1 + 1, payload.l[1..2], payload.l[qos] FROM "t/#"
-- |   |                                                                                    ^^^^^^^^^^^^^^ give it a name with AS
SELECT qos, payload.a.b, payload.l[2], 'text', (clientid), 1 + 1, payload.l[1..2], payload.l[qos] FROM "t/#"
----
-- payload: {"l":[1,2,3]}
-- result: [{"payload":{"l":[2,3]}}]
SELECT payload.l[2..3] FROM "t/#"
