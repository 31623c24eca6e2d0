select case when payload.temp>60 then 'critical' when payload.temp>30 then 'warning' when payload.temp<0 then 'frozen' else 'fine' end level from "t"
----
SELECT CASE WHEN payload.temp > 60 THEN 'critical'
            WHEN payload.temp > 30 THEN 'warning'
            WHEN payload.temp < 0 THEN 'frozen'
            ELSE 'fine' END AS level
FROM   "t"
----
select case payload.status when 1 then 'a' else 'b' end as s from "t"
----
SELECT CASE payload.status WHEN 1 THEN 'a' ELSE 'b' END AS s FROM "t"
----
select case
  when payload.temp > 30 then 'hot'
  else 'fine' end as level from "t"
----
SELECT CASE WHEN payload.temp > 30 THEN 'hot'
            ELSE 'fine' END AS level
FROM   "t"
----
select case payload.state_of_the_machine_as_it_says_itself when 'running_smoothly' then 'good' when 'out_of_order' then 'bad' end as s from "t"
----
SELECT CASE payload.state_of_the_machine_as_it_says_itself
            WHEN 'running_smoothly' THEN 'good'
            WHEN 'out_of_order' THEN 'bad' END AS s
FROM   "t"
----
select case when payload.temperature_outside > 30 and payload.temperature_inside > 25 and payload.window_in_the_roof = 'open' then 'please close the window in the roof' else 'fine' end as s from "t"
----
SELECT CASE WHEN payload.temperature_outside > 30
                 AND payload.temperature_inside > 25
                 AND payload.window_in_the_roof = 'open'
              THEN 'please close the window in the roof'
            ELSE 'fine' END AS s
FROM   "t"
----
select - 1 as a, - -qos as b, 1-1 as c, -(qos) as d, payload . a [ 1 .. -1 ] . 2 as e, a.b [-1] as f, [ 1 .. 3 ] as g, { 'k':1,'l' : [ 1,2 ] } as h from "t"
----
SELECT -1 AS a, - -qos AS b, 1 - 1 AS c, -(qos) AS d, payload.a[1..-1].2 AS e, a.b[-1] AS f,
       [1..3] AS g, {'k': 1, 'l': [1, 2]} AS h
FROM   "t"
----
select cast( payload.a as integer ) as a, NULL() as n, null as m, Div(7,2) as d, 7 div 2 as e, a in(1,2) as f, not(a) as g, true.x as h, 1 .a as i from "t"
----
SELECT CAST(payload.a AS INTEGER) AS a, null() AS n, NULL AS m, div(7, 2) AS d, 7 DIV 2 AS e,
       a IN (1, 2) AS f, NOT (a) AS g, TRUE.x AS h, 1 .a AS i
FROM   "t"
----
select a LIKE '10!%' ESCAPE '!' as x, a is not null as y, topic=~'a/#' as z, a not between 1 and 2 as w, not a rlike 'b' as v from "t"
----
SELECT a LIKE '10!%' ESCAPE '!' AS x, a IS NOT NULL AS y, topic =~ 'a/#' AS z,
       a NOT BETWEEN 1 AND 2 AS w, NOT a RLIKE 'b' AS v
FROM   "t"
----
select 'device ' || payload.name || ' at ' || payload.place || ' says: ' || payload.message || ' (' || payload.level || ')' as text from "t"
----
SELECT 'device ' || payload.name || ' at ' || payload.place || ' says: ' || payload.message || ' ('
       || payload.level || ')' AS text
FROM   "t"
----
select map_put('first', payload.first_value_of_the_reading, map_put('second', payload.second_value_of_the_reading, map_new())) as m from "t"
----
SELECT map_put('first', payload.first_value_of_the_reading,
               map_put('second', payload.second_value_of_the_reading, map_new())) AS m
FROM   "t"
----
select payload.kind in ('temperature', 'humidity', 'pressure', 'wind_speed', 'wind_direction', 'rain', 'light') as known from "t"
----
SELECT payload.kind IN ('temperature', 'humidity', 'pressure', 'wind_speed', 'wind_direction',
                        'rain', 'light') AS known
FROM   "t"
----
select 'two
lines' as a, "Quoted" as "b c", `tick` as d from "t"
----
SELECT 'two
lines' AS a, "Quoted" AS "b c", `tick` AS d
FROM   "t"
