//! The date directives `%Y %m %d %H %M %S %N %3N %6N %z %:z %::z`, for writing and for reading.
//!
//! No clock, no zone database: an instant and an offset come in.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const NS_PER_S: i128 = 1_000_000_000;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// With so many digits.
    Fraction(usize),
    /// With so many colons.
    Offset(usize),
}

const DIRECTIVES: [(&str, Directive); 12] = [
    ("%Y", Directive::Year),
    ("%m", Directive::Month),
    ("%d", Directive::Day),
    ("%H", Directive::Hour),
    ("%M", Directive::Minute),
    ("%S", Directive::Second),
    ("%N", Directive::Fraction(9)),
    ("%3N", Directive::Fraction(3)),
    ("%6N", Directive::Fraction(6)),
    ("%z", Directive::Offset(0)),
    ("%:z", Directive::Offset(1)),
    ("%::z", Directive::Offset(2)),
];

/// The length of the directive that the text starts with, if it does.
pub fn is_directive(text: &str) -> Option<usize> {
    directive(text).map(|(name, _)| name.len())
}

fn directive(text: &str) -> Option<(&'static str, Directive)> {
    DIRECTIVES
        .into_iter()
        .find(|(name, _)| text.starts_with(name))
}

/// The civil time of an instant (nanoseconds since the epoch) at an offset; `None` outside the years -9999 to 9999.
pub(super) fn civil(instant_ns: i128, offset_s: i32) -> Option<DateTime> {
    let local_ns = instant_ns.checked_add(i128::from(offset_s) * NS_PER_S)?;
    let since = SignedDuration::new(
        i64::try_from(local_ns.div_euclid(NS_PER_S)).ok()?,
        i32::try_from(local_ns.rem_euclid(NS_PER_S)).ok()?,
    );
    EPOCH.checked_add(since).ok()
}

/// The instant (nanoseconds since the epoch) of a civil time at an offset.
fn instant(time: DateTime, offset_s: i32) -> i128 {
    time.duration_since(EPOCH).as_nanos() - i128::from(offset_s) * NS_PER_S
}

/// An instant (nanoseconds since the epoch) as text at an offset (seconds east of UTC).
/// `None` when its year has not four digits.
pub fn format(format: &str, instant_ns: i128, offset_s: i32) -> Option<String> {
    let time = civil(instant_ns, offset_s)?;
    if !(0..=9999).contains(&time.year()) {
        return None;
    }
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match directive(rest) {
            Some((name, directive)) => {
                write(directive, &time, offset_s, &mut out);
                rest = &rest[name.len()..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

fn write(directive: Directive, time: &DateTime, offset_s: i32, out: &mut String) {
    let two = |number: i8| format!("{number:02}");
    out.push_str(&match directive {
        Directive::Year => format!("{:04}", time.year()),
        Directive::Month => two(time.month()),
        Directive::Day => two(time.day()),
        Directive::Hour => two(time.hour()),
        Directive::Minute => two(time.minute()),
        Directive::Second => two(time.second()),
        Directive::Fraction(digits) => {
            format!("{:09}", time.subsec_nanosecond())[..digits].to_owned()
        }
        Directive::Offset(colons) => offset_text(offset_s, colons),
    });
}

/// `±hhmm`, `±hh:mm` or `±hh:mm:ss`.
pub(super) fn offset_text(offset_s: i32, colons: usize) -> String {
    let sign = if offset_s < 0 { '-' } else { '+' };
    let seconds = offset_s.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match colons {
        0 => format!("{sign}{hours:02}{minutes:02}"),
        1 => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// The seconds of `Z`, `z`, `±hh:mm`, `±hh:mm:ss` or `±hhmm`.
pub(super) fn offset_of(text: &str) -> Option<i32> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let rest = &text[1..];
    let parts: Vec<&str> = match rest.len() {
        4 if rest.is_ascii() => vec![&rest[..2], &rest[2..]],
        _ => rest.split(':').collect(),
    };
    if !matches!(parts.len(), 2 | 3) {
        return None;
    }
    let mut seconds = 0;
    for (place, unit, most) in [(0, 3600, 23), (1, 60, 59), (2, 1, 59)] {
        if let Some(part) = parts.get(place) {
            seconds += unit
                * i32::try_from(number(part, 2)?)
                    .ok()
                    .filter(|value| *value <= most)?;
        }
    }
    Some(sign * seconds)
}

/// What was read of a date.
#[derive(Default)]
struct Fields {
    year: Option<u32>,
    month: Option<u32>,
    day: Option<u32>,
    hour: Option<u32>,
    minute: Option<u32>,
    second: Option<u32>,
    nanosecond: u32,
    offset_s: Option<i32>,
}

/// Reads an instant (nanoseconds since the epoch) by a format. Characters of the format that are no
/// directive skip as many characters; a zone is used unless the text has an offset of its own.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(format: &str, text: &str, zone: &TimeZone) -> Result<i128, &'static str> {
    let mut fields = Fields::default();
    let (mut format, mut text) = (format, text);
    while let Some(c) = format.chars().next() {
        match directive(format) {
            Some(_) if text.is_empty() => break,
            Some((name, directive)) => {
                text = fields
                    .read(directive, text)
                    .ok_or("does not fit the format")?;
                format = &format[name.len()..];
            }
            None => {
                text = &text[text.chars().next().map_or(0, char::len_utf8)..];
                format = &format[c.len_utf8()..];
            }
        }
    }
    fields.instant_ns(zone)
}

impl Fields {
    /// Takes a directive's width off the text.
    fn read<'t>(&mut self, directive: Directive, text: &'t str) -> Option<&'t str> {
        let width = match directive {
            Directive::Year => 4,
            Directive::Fraction(digits) => digits,
            Directive::Offset(colons) => [5, 6, 9][colons],
            _ => 2,
        };
        let (part, rest) = text.split_at_checked(width)?;
        match directive {
            Directive::Year => self.year = Some(number(part, width)?),
            Directive::Month => self.month = Some(number(part, width)?),
            Directive::Day => self.day = Some(number(part, width)?),
            Directive::Hour => self.hour = Some(number(part, width)?),
            Directive::Minute => self.minute = Some(number(part, width)?),
            Directive::Second => self.second = Some(number(part, width)?),
            Directive::Fraction(digits) => {
                let missing = u32::try_from(9 - digits).ok()?;
                self.nanosecond = number(part, width)? * 10_u32.pow(missing);
            }
            Directive::Offset(_) => self.offset_s = Some(offset_of(part)?),
        }
        Some(rest)
    }

    fn instant_ns(&self, zone: &TimeZone) -> Result<i128, &'static str> {
        const MISSING: &str = "lacks a year, month, day, hour, minute or second";
        let small =
            |field: Option<u32>| i8::try_from(field.ok_or(MISSING)?).map_err(|_| "is not a date");
        let year = i16::try_from(self.year.ok_or(MISSING)?).map_err(|_| "is not a date")?;
        let (month, day) = (small(self.month)?, small(self.day)?);
        let (hour, minute, second) = (small(self.hour)?, small(self.minute)?, small(self.second)?);
        let nanosecond = i32::try_from(self.nanosecond).map_err(|_| "is not a date")?;
        let time = DateTime::new(year, month, day, hour, minute, second, nanosecond)
            .map_err(|_| "is not a date")?;
        instant_ns(time, self.offset_s, zone).ok_or("is out of range")
    }
}

/// The instant of a civil time at an offset, or else in a zone.
pub(super) fn instant_ns(time: DateTime, offset_s: Option<i32>, zone: &TimeZone) -> Option<i128> {
    match offset_s {
        Some(offset_s) => Some(instant(time, offset_s)),
        None => match zone.to_timestamp(time) {
            Ok(timestamp) => Some(timestamp.as_nanosecond()),
            // The last day of the year 9999 is a civil time, and no timestamp of the library.
            Err(_) => Some(instant(time, zone.to_offset(Timestamp::MAX).seconds())),
        },
    }
}

/// Reads RFC 3339: date, `T`, `t` or a space, time, fraction, `Z` or offset; nanoseconds beyond the ninth digit are cut.
pub(super) fn parse_rfc3339(text: &str) -> Option<i128> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let bytes = date_time.as_bytes();
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    if !marks
        .iter()
        .all(|(at, any)| any.as_bytes().contains(&bytes[*at]))
    {
        return None;
    }
    let mut fields = Fields {
        offset_s: Some(0),
        ..Fields::default()
    };
    fields.year = number(&date_time[..4], 4);
    let places = [
        (&mut fields.month, 5),
        (&mut fields.day, 8),
        (&mut fields.hour, 11),
        (&mut fields.minute, 14),
        (&mut fields.second, 17),
    ];
    for (field, at) in places {
        *field = Some(number(&date_time[at..at + 2], 2)?);
    }
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit())?;
            let nine: String = fraction[..end]
                .chars()
                .chain("000000000".chars())
                .take(9)
                .collect();
            fields.nanosecond = if end == 0 {
                return None;
            } else {
                number(&nine, 9)?
            };
            &fraction[end..]
        }
        None => rest,
    };
    let colons = matches!(rest, "Z" | "z") || rest.len() == 6;
    fields.offset_s = Some(offset_of(rest).filter(|_| colons)?);
    fields.instant_ns(&TimeZone::UTC).ok()
}

/// Exactly so many digits.
fn number(text: &str, width: usize) -> Option<u32> {
    (text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: i128 = 1_753_452_000_123_456_789;

    #[test]
    fn instants_are_written_by_directives() {
        assert_eq!(
            format("%Y-%m-%dT%H:%M:%S.%3N%:z", INSTANT, 7200).unwrap(),
            "2025-07-25T16:00:00.123+02:00"
        );
        assert_eq!(
            format("%6N %N %z %::z é%q%", INSTANT, -5400).unwrap(),
            "123456 123456789 -0130 -01:30:00 é%q%"
        );
        assert_eq!(format("%Y%3N", -1, 0).unwrap(), "1969999");
        assert_eq!(format("%Y", i128::MAX, 0), None);
    }

    #[test]
    fn what_was_written_is_read_back() {
        for offset in [0, 3600, -16_200] {
            let text = format("%Y/%m/%d %H.%M.%S %N%z", INSTANT, offset).unwrap();
            assert_eq!(
                parse("%Y/%m/%d %H.%M.%S %N%z", &text, &TimeZone::UTC),
                Ok(INSTANT)
            );
        }
    }

    #[test]
    fn texts_that_do_not_hold_a_date_are_refused() {
        let read = |text| parse("%Y-%m-%d %H:%M:%S%z", text, &TimeZone::UTC);
        assert_eq!(read("2025-07-25 14:00:00"), Ok(1_753_452_000_000_000_000));
        assert_eq!(
            read("2025x07x25_14_00_00+0200 and more"),
            Ok(1_753_444_800_000_000_000)
        );
        for bad in [
            "2025-07-25 14:00",
            "2025-02-30 00:00:00",
            "2025-07-25 24:00:00",
            "2025-07-25 14:00:60",
            "20é5-07-25",
            "2025-7-25 1:0:0",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc3339_is_read_strictly() {
        assert_eq!(
            parse_rfc3339("2025-07-25T14:00:00.123456789Z"),
            Some(INSTANT)
        );
        assert_eq!(
            parse_rfc3339("2025-07-25 16:00:00.12345678999+02:00"),
            Some(INSTANT)
        );
        assert_eq!(parse_rfc3339("1969-12-31t23:59:59.9z"), Some(-100_000_000));
        for bad in [
            "2025-07-25",
            "2025-07-25T14:00:00",
            "2025-07-25T14:00:00.Z",
            "2025-07-25T24:00:00Z",
            "2025-07-25T14:00:00+0200",
            "2025-07-25T14:00:00Zx",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn offsets_are_read_in_all_spellings() {
        for (text, seconds) in [
            ("Z", 0),
            ("+02:00", 7200),
            ("-0130", -5400),
            ("+00:00:30", 30),
            ("+23:59", 86_340),
        ] {
            assert_eq!(offset_of(text), Some(seconds));
        }
        for bad in [
            "",
            "+",
            "02:00",
            "+24:00",
            "+02:60",
            "+2:00",
            "+02",
            "+02:00:00:00",
            "+é00",
        ] {
            assert_eq!(offset_of(bad), None, "{bad}");
        }
    }
}
