//! Date and time. The clock and the broker's zone come in through `Env`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, ToSpan, Unit};

use super::call::Call;
use super::{Category, Function, Param, StrictBody, date_format};
use crate::error::{ErrorKind, Fault};
use crate::value::Value;

const UNITS: &[&str] = &["second", "millisecond", "microsecond", "nanosecond"];
const CALENDAR: &[&str] = &[
    "second", "minute", "hour", "day", "week", "month", "quarter", "year",
];
const UNIT: &[&[Param]] = &[&[], &[Param::one_of("unit", UNITS)]];
const MS: &[&[Param]] = &[
    &[Param::int("ms")],
    &[Param::int("ms"), Param::any("offset")],
];
const NS_PER_MS: i128 = 1_000_000;

const fn time(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Time, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    time("now_timestamp", UNIT, "The time since the Unix epoch, in seconds or in the unit.", &[("now_timestamp() > 0", "true")], |call| {
        let unit = unit_ns(call, 0)?;
        in_unit(call.env.now_ns(), unit)
    })
    .reads(),
    time("now_rfc3339", UNIT, "The time as RFC 3339 text in the broker's zone.", &[("rfc3339_to_unix_ts(now_rfc3339()) > 0", "true")], |call| {
        let unit = unit_ns(call, 0)?;
        let zone = call.env.time_zone().clone();
        rfc3339(call, call.env.now_ns(), unit, &zone)
    })
    .reads(),
    time("now", &[&[]], "The time since the Unix epoch in milliseconds.", &[("now() > 0", "true")], now_ms).reads(),
    time("timestamp", &[&[]], "Another name of `now`.", &[("timestamp() = now()", "true")], now_ms).reads(),
    time(
        "unix_ts_to_rfc3339",
        &[&[Param::int("time")], &[Param::int("time"), Param::one_of("unit", UNITS)]],
        "A time since the Unix epoch, in seconds or in the unit, as RFC 3339 text in the broker's zone.",
        &[
            ("unix_ts_to_rfc3339(1753452000)", "'2025-07-25T14:00:00+00:00'"),
            ("unix_ts_to_rfc3339(1753452000123, 'millisecond')", "'2025-07-25T14:00:00.123+00:00'"),
        ],
        |call| {
            let unit = unit_ns(call, 1)?;
            let zone = call.env.time_zone().clone();
            rfc3339(call, i128::from(call.int(0)?) * unit, unit, &zone)
        },
    )
    .reads(),
    time(
        "rfc3339_to_unix_ts",
        &[&[Param::text("s")], &[Param::text("s"), Param::one_of("unit", UNITS)]],
        "The time since the Unix epoch, in seconds or in the unit, of an RFC 3339 text.",
        &[
            ("rfc3339_to_unix_ts('2025-07-25T16:00:00+02:00')", "1753452000"),
            ("rfc3339_to_unix_ts('2025-07-25T14:00:00.1239Z', 'millisecond')", "1753452000123"),
        ],
        |call| {
            let unit = unit_ns(call, 1)?;
            let instant = date_format::parse_rfc3339(call.text(0)?);
            in_unit(instant.ok_or_else(|| call.bad(0, "is not an RFC 3339 time"))?, unit)
        },
    ),
    time(
        "format_date",
        &[
            &[Param::one_of("unit", UNITS), Param::any("offset"), Param::text("format")],
            &[Param::one_of("unit", UNITS), Param::any("offset"), Param::text("format"), Param::int("time")],
        ],
        "A time in the unit, or now, as text at an offset (`'+02:00'`, seconds, `'local'`). Directives: \
         `%Y %m %d %H %M %S %N %3N %6N %z %:z %::z`.",
        &[
            ("format_date('second', '+02:00', '%Y-%m-%d %H:%M:%S%:z', 1753452000)", "'2025-07-25 16:00:00+02:00'"),
            ("format_date('millisecond', 0, '%H:%M:%S.%3N', 1753452000123)", "'14:00:00.123'"),
        ],
        |call| {
            let unit = unit_ns(call, 0)?;
            let instant = if call.count() > 3 { i128::from(call.int(3)?) * unit } else { call.env.now_ns() };
            let zone = zone(call, 1)?;
            formatted(call, call.text(2)?, instant, &zone)
        },
    )
    .reads(),
    time(
        "date_to_unix_ts",
        &[
            &[Param::one_of("unit", UNITS), Param::text("format"), Param::text("s")],
            &[Param::one_of("unit", UNITS), Param::any("offset"), Param::text("format"), Param::text("s")],
        ],
        "The time since the Unix epoch, in the unit, that a text has by a format. An offset in the text wins.",
        &[
            ("date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S', '2025-07-25 14:00:00')", "1753452000"),
            ("date_to_unix_ts('second', '+02:00', '%Y-%m-%d %H:%M:%S', '2025-07-25 16:00:00')", "1753452000"),
        ],
        |call| {
            let unit = unit_ns(call, 0)?;
            let last = call.count() - 1;
            let zone = if last == 3 { zone(call, 1)? } else { TimeZone::UTC };
            in_unit(parsed(call, last - 1, last, &zone)?, unit)
        },
    )
    .reads(),
    time(
        "timezone_to_offset_seconds",
        &[&[Param::any("offset")]],
        "The seconds of an offset: `'Z'`, `'local'`, `'+02:00'`, `'-0130'`.",
        &[("timezone_to_offset_seconds('+02:00')", "7200"), ("timezone_to_offset_seconds('Z')", "0")],
        offset_seconds,
    )
    .reads(),
    time(
        "timezone_to_second",
        &[&[Param::any("offset")]],
        "Another name of `timezone_to_offset_seconds`.",
        &[("timezone_to_second('-01:30')", "-5400")],
        offset_seconds,
    )
    .reads(),
    time(
        "format_time",
        &[&[Param::int("ms"), Param::text("format")]],
        "A time in milliseconds as text in UTC, by the directives of `format_date`.",
        &[("format_time(1753452000123, '%Y%m%d')", "'20250725'")],
        |call| formatted(call, call.text(1)?, i128::from(call.int(0)?) * NS_PER_MS, &TimeZone::UTC),
    ),
    time(
        "parse_time",
        &[&[Param::text("s"), Param::text("format")]],
        "The milliseconds since the Unix epoch that a text has by the directives of `format_date`.",
        &[("parse_time('2025-07-25 14:00:00', '%Y-%m-%d %H:%M:%S')", "1753452000000")],
        |call| in_unit(parsed(call, 1, 0, &TimeZone::UTC)?, NS_PER_MS),
    ),
    time(
        "convert_tz",
        &[&[Param::int("ms"), Param::text("zone")]],
        "A time in milliseconds as RFC 3339 text in a named zone.",
        &[("convert_tz(1753452000000, 'Europe/Berlin')", "'2025-07-25T16:00:00.000+02:00'")],
        |call| {
            let name = call.text(1)?;
            let zone = match date_format::offset_of(name).map(Offset::from_seconds) {
                Some(Ok(offset)) => TimeZone::fixed(offset),
                _ => TimeZone::get(name).map_err(|_| call.bad(1, "is not a known time zone"))?,
            };
            rfc3339(call, i128::from(call.int(0)?) * NS_PER_MS, NS_PER_MS, &zone)
        },
    )
    .reads(),
    time(
        "date_trunc",
        &[
            &[Param::one_of("unit", CALENDAR), Param::int("ms")],
            &[Param::one_of("unit", CALENDAR), Param::int("ms"), Param::any("offset")],
        ],
        "The start, in milliseconds, of the second, minute, hour, day, week, month, quarter or year of a time.",
        &[("date_trunc('hour', 1753452123456)", "1753452000000"), ("date_trunc('month', 1753452000000)", "1751328000000")],
        |call| {
            let zone = zone(call, 2)?;
            let (unit, time) = (call.text(0)?, civil(call, 1, &zone)?);
            let start = start_of(unit, time).ok_or_else(|| call.bad(0, "is not a unit"))?;
            let now_ns = i128::from(call.int(1)?) * NS_PER_MS;
            let instant = match unit {
                "second" | "minute" | "hour" => same_hour(start, now_ns, &zone),
                _ => date_format::instant_ns(start, None, &zone),
            };
            in_unit(instant.ok_or_else(|| call.bad(1, "is out of range"))?, NS_PER_MS)
        },
    )
    .reads(),
    time(
        "date_diff",
        &[&[Param::one_of("unit", CALENDAR), Param::int("ms1"), Param::int("ms2")]],
        "How many whole units lie between two times in milliseconds; negative when the second is earlier.",
        &[("date_diff('hour', 0, 7300000)", "2"), ("date_diff('month', 1751328000000, 1756598400000)", "1")],
        |call| {
            let (from, to) = (civil(call, 1, &TimeZone::UTC)?, civil(call, 2, &TimeZone::UTC)?);
            whole_units(call.text(0)?, from, to).map(Value::Int).ok_or_else(|| call.bad(0, "is not a unit"))
        },
    ),
    time(
        "date_add",
        &[&[Param::one_of("unit", CALENDAR), Param::int("n"), Param::int("ms")]],
        "A time in milliseconds with n units added; a day that a month lacks becomes its last.",
        &[("date_add('minute', 2, 0)", "120000"), ("date_add('month', 1, 1738281600000)", "1740700800000")],
        |call| {
            let span = span(call.text(0)?, call.int(1)?).ok_or_else(|| call.bad(1, "is out of range"))?;
            let later = civil(call, 2, &TimeZone::UTC)?.checked_add(span).map_err(|_| call.bad(1, "is out of range"))?;
            let instant = date_format::instant_ns(later, None, &TimeZone::UTC);
            in_unit(instant.ok_or_else(|| call.bad(1, "is out of range"))?, NS_PER_MS)
        },
    ),
    time("year", MS, "The year of a time in milliseconds.", &[("year(1753452000000)", "2025")], |call| part(call, |t| t.year().into())).reads(),
    time("month", MS, "The month, 1 to 12.", &[("month(1753452000000)", "7")], |call| part(call, |t| t.month().into())).reads(),
    time("day", MS, "The day of the month.", &[("day(1753452000000)", "25")], |call| part(call, |t| t.day().into())).reads(),
    time("hour", MS, "The hour, 0 to 23.", &[("hour(1753452000000, '+02:00')", "16")], |call| part(call, |t| t.hour().into())).reads(),
    time("minute", MS, "The minute, 0 to 59.", &[("minute(1753452000000)", "0")], |call| part(call, |t| t.minute().into())).reads(),
    time("second", MS, "The second, 0 to 59.", &[("second(1753452007000)", "7")], |call| part(call, |t| t.second().into())).reads(),
    time("weekday", MS, "The day of the week; 1 is Monday.", &[("weekday(1753452000000)", "5")], |call| {
        part(call, |t| t.weekday().to_monday_one_offset().into())
    })
    .reads(),
    time("yearday", MS, "The day of the year, from 1.", &[("yearday(1753452000000)", "206")], |call| part(call, |t| t.day_of_year().into())).reads(),
    time("iso_week", MS, "The ISO week of the year, from 1.", &[("iso_week(1753452000000)", "30")], |call| {
        part(call, |t| t.date().iso_week_date().week().into())
    })
    .reads(),
];

fn now_ms(call: &mut Call<'_>) -> Result<Value, Fault> {
    in_unit(call.env.now_ns(), NS_PER_MS)
}

/// The nanoseconds of the unit that the argument names; of a second when there is none.
fn unit_ns(call: &Call<'_>, index: usize) -> Result<i128, Fault> {
    if index >= call.count() {
        return Ok(1_000_000_000);
    }
    match call.text(index)? {
        "second" => Ok(1_000_000_000),
        "millisecond" => Ok(NS_PER_MS),
        "microsecond" => Ok(1000),
        "nanosecond" => Ok(1),
        _ => Err(call.bad(
            index,
            "must be 'second', 'millisecond', 'microsecond' or 'nanosecond'",
        )),
    }
}

/// Whole units, toward the past.
fn in_unit(instant_ns: i128, unit_ns: i128) -> Result<Value, Fault> {
    i64::try_from(instant_ns.div_euclid(unit_ns))
        .map(Value::Int)
        .map_err(|_| {
            Fault::new(
                ErrorKind::Overflow,
                "the time is outside the 64-bit integers",
            )
        })
}

/// The zone that an argument names: an offset, `'local'`, or UTC when it is undefined or missing.
fn zone(call: &Call<'_>, index: usize) -> Result<TimeZone, Fault> {
    let seconds = match call.value(index) {
        Value::Undefined => Some(0),
        Value::Int(seconds) => i32::try_from(*seconds)
            .ok()
            .filter(|seconds| seconds.unsigned_abs() < 86_400),
        Value::Text(text) if text.as_bytes() == b"local" => {
            return Ok(call.env.time_zone().clone());
        }
        Value::Text(text) => text.as_str().and_then(date_format::offset_of),
        _ => None,
    };
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
    offset
        .map(TimeZone::fixed)
        .ok_or_else(|| call.bad(index, "is not an offset from UTC"))
}

fn offset_at(zone: &TimeZone, instant_ns: i128) -> Option<i32> {
    // Beyond the library's timestamps, by a day at most, the offset is that of the last one.
    let known = instant_ns.clamp(
        Timestamp::MIN.as_nanosecond(),
        Timestamp::MAX.as_nanosecond(),
    );
    let timestamp = Timestamp::from_nanosecond(known).ok()?;
    Some(zone.to_offset(timestamp).seconds())
}

fn offset_seconds(call: &mut Call<'_>) -> Result<Value, Fault> {
    let zone = zone(call, 0)?;
    let offset = offset_at(&zone, call.env.now_ns()).unwrap_or(0);
    Ok(Value::Int(offset.into()))
}

fn formatted(
    call: &Call<'_>,
    format: &str,
    instant_ns: i128,
    zone: &TimeZone,
) -> Result<Value, Fault> {
    offset_at(zone, instant_ns)
        .and_then(|offset| date_format::format(format, instant_ns, offset))
        .map(Value::from)
        .ok_or_else(|| call.bad(call.count() - 1, "is a time whose year has not four digits"))
}

fn rfc3339(
    call: &Call<'_>,
    instant_ns: i128,
    unit_ns: i128,
    zone: &TimeZone,
) -> Result<Value, Fault> {
    let format = match unit_ns {
        1 => "%Y-%m-%dT%H:%M:%S.%N%:z",
        1000 => "%Y-%m-%dT%H:%M:%S.%6N%:z",
        NS_PER_MS => "%Y-%m-%dT%H:%M:%S.%3N%:z",
        _ => "%Y-%m-%dT%H:%M:%S%:z",
    };
    offset_at(zone, instant_ns)
        .and_then(|offset| date_format::format(format, instant_ns, offset))
        .map(Value::from)
        .ok_or_else(|| call.bad(0, "is a time whose year has not four digits"))
}

fn parsed(call: &Call<'_>, format: usize, text: usize, zone: &TimeZone) -> Result<i128, Fault> {
    date_format::parse(call.text(format)?, call.text(text)?, zone)
        .map_err(|why| call.bad(text, why))
}

/// The civil time of an argument in milliseconds.
fn civil(call: &Call<'_>, index: usize, zone: &TimeZone) -> Result<DateTime, Fault> {
    let instant_ns = i128::from(call.int(index)?) * NS_PER_MS;
    offset_at(zone, instant_ns)
        .and_then(|offset| date_format::civil(instant_ns, offset))
        .ok_or_else(|| call.bad(index, "is out of range"))
}

fn part(call: &Call<'_>, of: fn(DateTime) -> i64) -> Result<Value, Fault> {
    Ok(Value::Int(of(civil(call, 0, &zone(call, 1)?)?)))
}

fn start_of(unit: &str, time: DateTime) -> Option<DateTime> {
    let hour = |hour, minute, second| time.date().at(hour, minute, second, 0);
    Some(match unit {
        "second" => hour(time.hour(), time.minute(), time.second()),
        "minute" => hour(time.hour(), time.minute(), 0),
        "hour" => hour(time.hour(), 0, 0),
        "day" => hour(0, 0, 0),
        "week" => hour(0, 0, 0)
            .checked_sub(i64::from(time.weekday().to_monday_zero_offset()).days())
            .ok()?,
        "month" => time.date().first_of_month().at(0, 0, 0, 0),
        "quarter" => {
            let months = (time.month() - 1) % 3;
            time.date()
                .first_of_month()
                .checked_sub(i64::from(months).months())
                .ok()?
                .at(0, 0, 0, 0)
        }
        "year" => time.date().first_of_year().at(0, 0, 0, 0),
        _ => return None,
    })
}

/// The instant of a civil time in the hour of another instant: where clocks are set back, an hour comes twice.
fn same_hour(start: DateTime, instant_ns: i128, zone: &TimeZone) -> Option<i128> {
    let offset = offset_at(zone, instant_ns)?;
    let there = date_format::instant_ns(start, Some(offset), zone)?;
    if offset_at(zone, there) == Some(offset) {
        Some(there)
    } else {
        date_format::instant_ns(start, None, zone)
    }
}

fn whole_units(unit: &str, from: DateTime, to: DateTime) -> Option<i64> {
    let (unit, per) = match unit {
        "second" => (Unit::Second, 1),
        "minute" => (Unit::Minute, 1),
        "hour" => (Unit::Hour, 1),
        "day" => (Unit::Day, 1),
        "week" => (Unit::Week, 1),
        "month" => (Unit::Month, 1),
        "quarter" => (Unit::Month, 3),
        "year" => (Unit::Year, 1),
        _ => return None,
    };
    let span = from.until((unit, to)).ok()?;
    let count = match unit {
        Unit::Second => span.get_seconds(),
        Unit::Minute => span.get_minutes(),
        Unit::Hour => span.get_hours().into(),
        Unit::Day => span.get_days().into(),
        Unit::Week => span.get_weeks().into(),
        Unit::Month => span.get_months().into(),
        _ => span.get_years().into(),
    };
    Some(count / per)
}

fn span(unit: &str, count: i64) -> Option<Span> {
    let span = Span::new();
    match unit {
        "second" => span.try_seconds(count),
        "minute" => span.try_minutes(count),
        "hour" => span.try_hours(count),
        "day" => span.try_days(count),
        "week" => span.try_weeks(count),
        "month" => span.try_months(count),
        "quarter" => span.try_months(count.checked_mul(3)?),
        "year" => span.try_years(count),
        _ => return None,
    }
    .ok()
}
