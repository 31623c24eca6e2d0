//! The few algorithms that the clouds use, and how their results are written.

use hmac::{Hmac, Mac};
use sha2::Digest;
use zeroize::Zeroizing;

/// Which hash, alone or in an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Md5,
    Sha1,
    Sha256,
}

impl Hash {
    /// How many bytes it makes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Md5 => mac::<Hmac<md5::Md5>>(key, message),
            Self::Sha1 => mac::<Hmac<sha1::Sha1>>(key, message),
            Self::Sha256 => mac::<Hmac<sha2::Sha256>>(key, message),
        }
    }

    pub(crate) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5::Md5::digest(message).to_vec(),
            Self::Sha1 => sha1::Sha1::digest(message).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(message).to_vec(),
        }
    }

    pub(super) fn hex_hmac(self, key: &[u8], message: &str) -> Zeroizing<String> {
        Zeroizing::new(hex(&self.hmac(key, message.as_bytes())))
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(in crate::bridge) fn b64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The same in letters that may stand in a level of a topic.
pub(in crate::bridge) fn b64_of_a_name(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of base64 with padding; nothing where it is not, or is empty.
pub(crate) fn key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    (!bytes.is_empty()).then(|| Zeroizing::new(bytes))
}

/// Every byte but letters, digits and `-._~` as `%XX`.
pub(crate) fn pct(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Year, month, day and second of the day in UTC; nothing before 1970 or after 9999.
pub(crate) fn civil(now_ms: i64) -> Option<(i64, i64, i64, i64)> {
    const LAST_SECOND: i64 = 253_402_300_799;
    let seconds = now_ms.div_euclid(1000);
    if !(0..=LAST_SECOND).contains(&seconds) {
        return None;
    }
    // Years begin in March, so that the leap day is their last.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some((year, month, day, seconds % 86_400))
}

/// Milliseconds since 1970 of `2026-11-29T20:00:00Z`, which may have a fraction and an offset, or of seconds. Seconds beyond
/// the year 5138 are none: they are milliseconds.
pub(super) fn instant_ms(text: &str) -> Option<i64> {
    const MOST_SECONDS: i64 = 100_000_000_000;
    if let Ok(seconds) = text.parse::<i64>() {
        return (seconds <= MOST_SECONDS)
            .then(|| seconds.checked_mul(1000))
            .flatten();
    }
    let number = |at: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(at)?;
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    };
    let separators = [4, 7, 10, 13, 16].map(|at| text.get(at..=at));
    if separators != ["-", "-", "T", ":", ":"].map(Some) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let may_be = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !may_be || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    let at = text.len() - rest.len();
    let east_s = match (rest.get(..1)?, rest.len()) {
        ("Z", 1) => 0,
        (sign @ ("+" | "-"), 6) if rest.get(3..4) == Some(":") => {
            let seconds = number(at + 1..at + 3)? * 3600 + number(at + 4..at + 6)? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => return None,
    };
    // Years begin in March, as in `civil`.
    let (year, shifted) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - east_s) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_that_is_written_down_is_read_as_the_same(seconds in 0i64..253_402_300_800) {
            let (year, month, day, second) = civil(seconds * 1000).unwrap();
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            prop_assert_eq!(instant_ms(&format!("{text}Z")), Some(seconds * 1000));
            prop_assert_eq!(instant_ms(&format!("{text}.25+01:30")), Some((seconds - 5400) * 1000));
            let is_time = seconds <= 100_000_000_000;
            prop_assert_eq!(instant_ms(&seconds.to_string()), is_time.then_some(seconds * 1000));
        }

        #[test]
        fn what_is_no_time_is_read_as_none(text in "\\PC{0,30}") {
            let _ = instant_ms(&text);
            for wrong in ["2026-11-29", "2026-11-29T20:00:00", "2026-13-29T20:00:00Z", "2026-11-29T20:00:00+1", ""] {
                prop_assert_eq!(instant_ms(wrong), None);
            }
        }
    }

    #[test]
    fn days_are_named_as_the_calendar_does() {
        for (seconds, date) in [
            (0, (1970, 1, 1, 0)),
            (951_782_400, (2000, 2, 29, 0)),
            (1_735_689_599, (2024, 12, 31, 86_399)),
            (4_107_542_400, (2100, 3, 1, 0)),
            (253_402_300_799, (9999, 12, 31, 86_399)),
        ] {
            assert_eq!(civil(seconds * 1000 + 999), Some(date));
        }
        assert_eq!(civil(-1), None);
        assert_eq!(civil(i64::MAX), None);
    }
}
