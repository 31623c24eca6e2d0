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

#[cfg(test)]
mod tests {
    use super::*;

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
