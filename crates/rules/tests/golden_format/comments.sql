-- What this is for.
select a from "t" -- and that is all
----
-- What this is for.
SELECT a FROM "t" -- and that is all
----
select payload.a -- of a
as b, -- and then
  /* of c */ payload.c c /* after */ ,
  -- a line of its own
  payload.d as d
  -- before the sources
from "t" where a = 1 -- one
  -- or
  or b = 2
  -- the end
;
----
SELECT payload.a -- of a
       AS b, -- and then
       /* of c */ payload.c AS c /* after */,
       -- a line of its own
       payload.d AS d
-- before the sources
FROM   "t"
WHERE  a = 1 -- one
   -- or
   OR  b = 2;
-- the end
----
select a -- first
     , b -- second
     -- why c
     , c
from "t"
----
SELECT a, -- first
       b, -- second
       -- why c
       c
FROM   "t"
----
/* head */ select /* all */ * from /* where from */ "t" /* tail */
----
/* head */
SELECT /* all */ * FROM /* where from */ "t" /* tail */
----
select f( /* none */ ) as a, g(/*one*/ 1, -- of two
 2) as b from "t"
----
SELECT f(/* none */) AS a,
       g(/*one*/ 1, -- of two
         2) AS b
FROM   "t"
----
select case -- by temperature
  when a > 1 /* hot */ then 2 -- two
  -- otherwise
  else 3 end as x from "t"
----
SELECT CASE -- by temperature
            WHEN a > 1 /* hot */ THEN 2 -- two
            -- otherwise
            ELSE 3 END AS x
FROM   "t"
----
select a from "t"
/* A long text
     of two lines. */
where a = 1
----
SELECT a
FROM   "t"
/* A long text
     of two lines. */
WHERE  a = 1
