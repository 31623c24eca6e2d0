//! Password hashes as files and databases hold them: argon2id, bcrypt, PBKDF2 as mosquitto and PHC write it, and plain
//! digests with a salt as EMQX keeps its users by default.
//!
//! Plain digests are fast to guess; they are here so that users can move in, not as advice.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use pbkdf2::pbkdf2_hmac;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Where the salt of a plain digest stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum SaltPosition {
    /// Before the password.
    #[default]
    Prefix,
    /// After it.
    Suffix,
}

/// PBKDF2 that is asked for more rounds than this would be a way to keep the broker busy.
const MAX_ROUNDS: u32 = 10_000_000;

/// The same for bcrypt: each step doubles the work, and this one takes seconds.
const MAX_BCRYPT_COST: u32 = 16;

/// Whether `password` is the one that `hash` was made of. `salt` stands beside hashes that do not hold their own.
///
/// Slow by design: not to be called on a task that others wait for.
pub fn verify(password: &[u8], hash: &str, salt: Option<&str>, position: SaltPosition) -> bool {
    let hash = hash.trim();
    if let Some(hash) = Mosquitto::parse(hash) {
        return hash.verify(password);
    }
    if hash.starts_with("$pbkdf2-") {
        return verify_phc_pbkdf2(password, hash);
    }
    if hash.starts_with("$2") {
        return bcrypt_cost(hash).is_some() && bcrypt::verify(password, hash).unwrap_or(false);
    }
    if hash.starts_with("$argon2") {
        return PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
    }
    verify_digest(password, hash, salt.unwrap_or(""), position)
}

/// Whether this is a hash that may stand in a file of users: a slow one with its salt inside, or what mosquitto made.
pub fn is_for_files(hash: &str) -> bool {
    if Mosquitto::parse(hash).is_some() {
        return true;
    }
    if hash.starts_with("$2") {
        return bcrypt_cost(hash).is_some();
    }
    PasswordHash::new(hash).is_ok_and(|hash| {
        let name = hash.algorithm.as_str();
        matches!(name, "argon2id" | "pbkdf2-sha256" | "pbkdf2-sha512")
    })
}

/// `$2b$cost$` and 53 characters of salt and hash; `$2a$` and `$2y$` are older names of the same.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let mut parts = hash.strip_prefix('$')?.split('$');
    let (version, cost, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(version, "2a" | "2b" | "2y") && parts.next().is_none();
    let cost = cost.parse().ok()?;
    (known && rest.len() == 53 && (4..=MAX_BCRYPT_COST).contains(&cost)).then_some(cost)
}

/// What `mosquitto_passwd` makes, always over SHA-512 and in base64.
struct Mosquitto {
    /// Of PBKDF2 in `$7$rounds$salt$hash`; `None` is the plain digest of `$6$salt$hash`, which is fast to guess.
    rounds: Option<u32>,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Mosquitto {
    fn parse(text: &str) -> Option<Self> {
        let (rounds, rest) = match text.strip_prefix("$7$") {
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$')?;
                let rounds = rounds.parse().ok()?;
                (
                    Some((1..=MAX_ROUNDS).contains(&rounds).then_some(rounds)?),
                    rest,
                )
            }
            None => (None, text.strip_prefix("$6$")?),
        };
        let (salt, hash) = rest.split_once('$')?;
        let (salt, hash) = (base64(salt)?, base64(hash)?);
        (!salt.is_empty() && hash.len() == 64).then_some(Self { rounds, salt, hash })
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Some(rounds) = self.rounds else {
            let made = Sha512::new()
                .chain_update(password)
                .chain_update(&self.salt)
                .finalize();
            return made.ct_eq(&self.hash).into();
        };
        pbkdf2_is::<Sha512>(password, &self.salt, rounds, &self.hash)
    }
}

/// `$pbkdf2-sha256$i=rounds,l=length$salt$hash`, base64 without padding.
fn verify_phc_pbkdf2(password: &[u8], hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else {
        return false;
    };
    let mut bytes = [0; 64];
    let Ok(salt) = salt.decode_b64(&mut bytes) else {
        return false;
    };
    let rounds = hash.params.get_decimal("i").unwrap_or(0);
    match hash.algorithm.as_str() {
        "pbkdf2-sha256" => pbkdf2_is::<Sha256>(password, salt, rounds, expected.as_bytes()),
        "pbkdf2-sha512" => pbkdf2_is::<Sha512>(password, salt, rounds, expected.as_bytes()),
        _ => false,
    }
}

fn pbkdf2_is<D>(password: &[u8], salt: &[u8], rounds: u32, expected: &[u8]) -> bool
where
    D: Pbkdf2Digest,
{
    if !(1..=MAX_ROUNDS).contains(&rounds) || !(16..=64).contains(&expected.len()) {
        return false;
    }
    let mut made = vec![0; expected.len()];
    D::pbkdf2(password, salt, rounds, &mut made);
    made.ct_eq(expected).into()
}

trait Pbkdf2Digest {
    fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]);
}

impl Pbkdf2Digest for Sha256 {
    fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
        pbkdf2_hmac::<Self>(password, salt, rounds, out);
    }
}

impl Pbkdf2Digest for Sha512 {
    fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
        pbkdf2_hmac::<Self>(password, salt, rounds, out);
    }
}

/// SHA-256 or SHA-512 in hexadecimal, told apart by their lengths.
fn verify_digest(password: &[u8], hash: &str, salt: &str, position: SaltPosition) -> bool {
    let (first, second) = match position {
        SaltPosition::Prefix => (salt.as_bytes(), password),
        SaltPosition::Suffix => (password, salt.as_bytes()),
    };
    let made = match hash.len() {
        64 => hex(&Sha256::new()
            .chain_update(first)
            .chain_update(second)
            .finalize()),
        128 => hex(&Sha512::new()
            .chain_update(first)
            .chain_update(second)
            .finalize()),
        _ => return false,
    };
    made.as_bytes()
        .ct_eq(hash.to_ascii_lowercase().as_bytes())
        .into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(password: &str, hash: &str, salt: Option<&str>) -> bool {
        verify(password.as_bytes(), hash, salt, SaltPosition::Prefix)
    }

    #[test]
    fn argon2_hashes_of_weir_passwd_fit() {
        let hash = crate::auth::password_file::hash_password("secret").unwrap();
        assert!(fits("secret", &hash, None) && !fits("Secret", &hash, None));
    }

    #[test]
    fn digests_with_a_salt_fit_in_both_positions() {
        // SHA-256 of `saltsecret` and of `secretsalt`.
        let made = |text: &str| hex(&Sha256::digest(text));
        assert!(fits("secret", &made("saltsecret"), Some("salt")));
        assert!(fits(
            "secret",
            &made("saltsecret").to_uppercase(),
            Some("salt")
        ));
        assert!(!fits("secret", &made("secretsalt"), Some("salt")));
        let suffix = |hash: &str| verify(b"secret", hash, Some("salt"), SaltPosition::Suffix);
        assert!(suffix(&made("secretsalt")) && !suffix(&made("saltsecret")));
        assert!(fits("secret", &hex(&Sha512::digest("secret")), None));
    }

    #[test]
    fn pbkdf2_fits_as_mosquitto_and_as_phc_write_it() {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let mut hash = [0; 64];
        pbkdf2_hmac::<Sha512>(b"secret", b"123456789012", 101, &mut hash);
        let mosquitto = format!(
            "$7$101${}${}",
            engine.encode("123456789012"),
            engine.encode(hash)
        );
        assert!(fits("secret", &mosquitto, None) && !fits("secreT", &mosquitto, None));
        let mut hash = [0; 32];
        pbkdf2_hmac::<Sha256>(b"secret", b"123456789012", 500, &mut hash);
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let phc = format!(
            "$pbkdf2-sha256$i=500,l=32${}${}",
            engine.encode("123456789012"),
            engine.encode(hash)
        );
        assert!(fits("secret", &phc, None) && !fits("", &phc, None));
    }

    #[test]
    fn bcrypt_fits_under_each_of_its_names() {
        // A vector of its first implementation, under `$2a$`.
        let rest = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        for name in ["$2a", "$2b", "$2y"] {
            let hash = format!("{name}{rest}");
            assert!(
                fits("U*U", &hash, None) && !fits("U*V", &hash, None),
                "{hash}"
            );
            assert!(is_for_files(&hash));
        }
        // More work than is done for anyone.
        let endless = format!("$2b$31{}", &rest[3..]);
        assert!(!fits("U*U", &endless, None) && !is_for_files(&endless));
    }

    #[test]
    fn hashes_with_their_salt_inside_may_stand_in_a_file() {
        let argon2 = crate::auth::password_file::hash_password("secret").unwrap();
        let mosquitto = format!("$7$101$AAAA${}==", "A".repeat(86));
        for hash in [
            &*argon2,
            &mosquitto,
            "$pbkdf2-sha256$i=500,l=32$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(is_for_files(hash), "{hash}");
        }
        let digest = hex(&Sha256::digest("secret"));
        for hash in [
            &*digest,
            "secret",
            "",
            "$7$101$AAAA",
            "$7$101$AAAA$AAAA",
            "$7$1$AAAA$AAAA$",
            "$2b$10$x",
            "$5$rounds=1$x$y",
        ] {
            assert!(!is_for_files(hash), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_fits_nothing() {
        for hash in [
            "",
            "secret",
            "$7$1",
            "$6$c2FsdA==$eA==",
            "$7$0$AAAA$AAAA",
            "$7$99999999999$AA==$AA==",
            "$argon2id$",
            "$pbkdf2-md5$i=1$AAAA$AAAA",
            "$2b$10$x",
        ] {
            assert!(!fits("secret", hash, None), "{hash}");
            assert!(!fits("", hash, None), "{hash}");
        }
    }
}
