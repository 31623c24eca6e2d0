-- payload: {"temp":40}
-- result: []
-- warning:
-- | warning[W0017]: the raw payload is compared with a number, and a number has no members
-- |  --> 1:46
-- |   |
-- | 1 | SELECT payload.temp AS temp FROM "t/#" WHERE payload > 30
-- |   |                                              ^^^^^^^ elsewhere the rule reads `payload.temp`: is one of its members meant?
SELECT payload.temp AS temp FROM "t/#" WHERE payload > 30
----
-- A payload that is a number, and one that may be either.
-- payload: 40
-- result: [{"temp":"40"}]
SELECT payload AS temp FROM "t/#" WHERE payload > 30 AND qos = 1
----
-- payload: {"temp":40}
-- result: [{"temp":40}]
SELECT coalesce(payload.temp, payload) AS temp FROM "t/#" WHERE payload.temp > 30 OR payload > 30
