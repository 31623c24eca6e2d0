-- result: [{"a":9,"b":5.0,"c":14,"d":3.5,"e":3.0,"f":3,"g":-3,"h":-1,"i":1,"j":-3,"k":"a1","l":"1a","m":"xnullundefined1.5true"}]
SELECT 7 + 2 AS a, 7 - 2.0 AS b, 7 * 2 AS c, 7 / 2 AS d, 6 / 2 AS e, 7 DIV 2 AS f, -7 DIV 2 AS g, -7 MOD 2 AS h, 7 % -2 AS i, -(3) AS j, 'a' + 1 AS k, 1 + 'a' AS l, 'x' || NULL || null() || 1.50 || TRUE AS m FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308}
-- failed: overflow: `+` leaves the 64-bit range at 1:8
SELECT payload.i + 1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: overflow: `*` leaves the 64-bit range at 1:8
SELECT payload.i * 2 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: type: `*` takes numbers, not a string at 1:8, value x
SELECT payload.s * 2 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: type: `+` takes numbers, not undefined at 1:8, value undefined
SELECT payload.missing + 1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: type: `-` takes numbers, not undefined at 1:8, value undefined
SELECT payload.missing - 1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: div_zero: `/` by zero at 1:8
SELECT 1 / payload.z AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: div_zero: `/` by zero at 1:8
SELECT 1.5 / payload.z AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: div_zero: `DIV` by zero at 1:8
SELECT 1 DIV payload.z AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: div_zero: `MOD` by zero at 1:8
SELECT 1 MOD payload.z AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: not_finite: `*` gives no finite number at 1:8
SELECT payload.f * 10 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- error:
-- | error[E0108]: `DIV` takes integers, not a float
-- |  --> 1:8
-- |   |
-- | 1 | SELECT 5.0 DIV 2 AS a FROM "t/#"
-- |   |        ^^^^^^^^^ this can never be computed
SELECT 5.0 DIV 2 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: type: `-` takes numbers, not a string at 1:8, value x
SELECT -payload.s AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: overflow: `-` leaves the 64-bit range at 1:8
SELECT -payload.n AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- failed: overflow: `DIV` leaves the 64-bit range at 1:8
SELECT payload.n DIV -1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- result: [{"a":0}]
SELECT payload.n MOD -1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- error:
-- | error[E0108]: `+` takes numbers, not null
-- |  --> 1:8
-- |   |
-- | 1 | SELECT NULL + 1 AS a FROM "t/#"
-- |   |        ^^^^^^^^ this can never be computed
SELECT NULL + 1 AS a FROM "t/#"
----
-- payload: {"i":9223372036854775807,"s":"x","z":0,"f":1e308,"n":-9223372036854775808}
-- result: [{"a":"x"}]
SELECT +payload.s AS a FROM "t/#"
