//! Durations and sizes in configuration: a number with its unit, never a bare number.

use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Reads `50ms`, `5s`, `1.5m`, `2h`, `7d`; several parts may follow each other (`1h30m`).
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err("an empty text is no duration".into());
    }
    while !rest.is_empty() {
        let (number, unit, next) = number_and_unit(rest)?;
        let seconds = match unit {
            "ms" => number / 1000.0,
            "s" => number,
            "m" | "min" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86_400.0,
            "" => {
                return Err(format!(
                    "`{text}` has no unit; write `{text}ms` or `{text}s`"
                ));
            }
            other => return Err(format!("unknown unit `{other}`; use ms, s, m, h or d")),
        };
        let part =
            Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is too long"))?;
        total = total
            .checked_add(part)
            .ok_or_else(|| format!("`{text}` is too long"))?;
        rest = next.trim_start();
    }
    Ok(total)
}

/// Reads `512B`, `64KiB`, `1MiB`, `2GiB`, and the decimal `kB`, `MB`, `GB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit, rest) = number_and_unit(text.trim())?;
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "" => {
            return Err(format!(
                "`{text}` has no unit; write `{text}B`, `{text}KiB` or `{text}MiB`"
            ));
        }
        other => return Err(format!("unknown unit `{other}`; use B, KiB, MiB or GiB")),
    };
    let bytes = number * factor;
    if !rest.trim().is_empty() || !bytes.is_finite() || bytes > 9e15 {
        return Err(format!("`{text}` is no size"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative (the number has no sign) and far below 2^63 (checked above)"
    )]
    Ok(bytes.round() as u64)
}

fn number_and_unit(text: &str) -> Result<(f64, &str, &str), String> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` does not start with a number"))?;
    let rest = rest.trim_start();
    let letters = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Ok((number, unit, rest))
}

/// A duration as files write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes as files write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(WithUnit {
                what: "a duration with its unit, like \"50ms\"",
                parse: parse_duration,
            })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(WithUnit {
                what: "a size with its unit, like \"1MiB\"",
                parse: parse_size,
            })
            .map(Self)
    }
}

struct WithUnit<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for WithUnit<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Err(E::custom(format!(
            "{number} has no unit; give {}",
            self.what
        )))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Err(E::custom(format!(
            "{number} has no unit; give {}",
            self.what
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("50ms").unwrap(), Duration::from_millis(50));
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert!(parse_duration("50").unwrap_err().contains("no unit"));
        assert!(
            parse_duration("5 parsecs")
                .unwrap_err()
                .contains("unknown unit")
        );
        assert!(parse_duration("").is_err());
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("99999999999999999999d").is_err());
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("1MiB").unwrap(), 1024 * 1024);
        assert_eq!(parse_size("64 KiB").unwrap(), 65536);
        assert_eq!(parse_size("2kB").unwrap(), 2000);
        assert!(parse_size("64").unwrap_err().contains("no unit"));
        assert!(parse_size("1MiB2").is_err());
        assert!(parse_size("99999999999GiB").is_err());
    }

    #[test]
    fn a_bare_number_in_a_file_is_an_error_that_says_what_to_write() {
        let error = serde_json::from_str::<Span>("5").unwrap_err().to_string();
        assert!(error.contains("no unit"), "{error}");
        assert_eq!(
            serde_json::from_str::<Size>("\"1KiB\"").unwrap(),
            Size(1024)
        );
    }
}
