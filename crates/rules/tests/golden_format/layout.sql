select payload.temp t from 'up' where payload.temp>30
----
SELECT payload.temp AS t FROM "up" WHERE payload.temp > 30
----
select id, nth(2, tokens(topic, '/')) device, payload.temp as temp, unix_ts_to_rfc3339(payload.ts, 'millisecond') at, climate.dew_point(payload.temp, payload.hum) dew from "/dev/+/up" where payload.temp > 30
----
SELECT id, nth(2, tokens(topic, '/')) AS device, payload.temp AS temp,
       unix_ts_to_rfc3339(payload.ts, 'millisecond') AS at,
       climate.dew_point(payload.temp, payload.hum) AS dew
FROM   "/dev/+/up"
WHERE  payload.temp > 30
----
SELECT id,
  payload.temp AS temp

FROM "/dev/+/up"
WHERE payload.temp > 30
----
SELECT id,
       payload.temp AS temp
FROM   "/dev/+/up"
WHERE  payload.temp > 30
----
SELECT
    Upper( topic ) AS topic
  , payload.FROM AS source
FROM
    a, 'b/"c"',
    "d"
----
SELECT upper(topic) AS topic,
       payload.FROM AS source
FROM   "a", "b/""c""",
       "d"
----
FOREACH payload.readings AS r
DO r.id AS id, r.value AS value
INCASE r.value > 0
FROM "gateway/+/readings" WHERE payload.version >= 2 and payload.kind == 'data'
  and qos != 0
----
FOREACH payload.readings AS r
DO      r.id AS id, r.value AS value
INCASE  r.value > 0
FROM    "gateway/+/readings"
WHERE   payload.version >= 2
  AND   payload.kind = 'data'
  AND   qos <> 0
----
select * from "t" where payload.temperature_outside > 30 and payload.temperature_inside < 20 and payload.window = 'open'
----
SELECT *
FROM   "t"
WHERE  payload.temperature_outside > 30
  AND  payload.temperature_inside < 20
  AND  payload.window = 'open'
----
select * from "t" where payload.temperature_outside > 30 and payload.window = 'open' or payload.temperature_inside > 30 and payload.window = 'closed'
----
SELECT *
FROM   "t"
WHERE  payload.temperature_outside > 30 AND payload.window = 'open'
   OR  payload.temperature_inside > 30 AND payload.window = 'closed'
----
foreach payload.list incase item.temperature_outside > 30 or item.temperature_inside > 30 or item.window = 'open' from "t"
----
FOREACH payload.list
INCASE  item.temperature_outside > 30 OR item.temperature_inside > 30 OR item.window = 'open'
FROM    "t"
----
select * from "t" where (payload.temperature_outside > 30 and payload.window = 'open' or payload.temperature_inside > 30) and payload.temperature_outside between 20 and 40
----
SELECT *
FROM   "t"
WHERE  (payload.temperature_outside > 30 AND payload.window = 'open'
        OR payload.temperature_inside > 30)
  AND  payload.temperature_outside BETWEEN 20 AND 40
