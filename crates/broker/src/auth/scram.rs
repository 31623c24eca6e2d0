//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a password is proven without being sent, and the server proves that it knows it.
//!
//! Credentials lie in a file of their own, lines of `user:SCRAM-SHA-256$iterations:salt$stored key:server key` as
//! `weir passwd --scram` writes them: what a thief of the file gets lets nobody sign in. There is no channel binding.
//! User names and passwords are prepared with SASLprep (RFC 4013), so that it does not matter how they were typed.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use ahash::HashMap;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_mqtt::{ReasonCode, Utf8};

use super::Identity;
use super::enhanced::{Exchange, Mechanism, Step};
use super::user_lines::Form;
use crate::problem::{Problem, Source};

/// The authentication method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Iterations of new credentials; RFC 7677 asks for at least 4096.
const ITERATIONS: u32 = 15_000;
const MIN_ITERATIONS: u32 = 4096;
const SALT_LEN: usize = 16;

/// A longer user name is nobody's: to prepare one takes time, which a stranger is not to have of the broker.
pub const MAX_NAME: usize = 1024;

type Key = [u8; 32];

/// A user name or a password that SASLprep does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is empty after SASLprep, or has what that does not allow: control and private characters, characters that are \
     younger than Unicode 3.2 (such as most emoji), or letters written from the right beside such from the left"
)]
pub struct NotPrepared;

/// A user name or a password as it is kept and compared: SASLprep of a stored string.
///
/// # Errors
/// When it has characters that are prohibited, or nothing is left of it.
pub fn prepared(text: &str) -> Result<Cow<'_, str>, NotPrepared> {
    match stringprep::saslprep(text) {
        Ok(prepared) if !prepared.is_empty() => Ok(prepared),
        Ok(_) | Err(_) => Err(NotPrepared),
    }
}

/// The user name that a client sends. Characters that are not known to Unicode 3.2 are allowed in it; no user has such.
fn asked_for(name: &str) -> Option<Cow<'_, str>> {
    if name.len() > MAX_NAME {
        return None;
    }
    let is_unknown = || name.contains(stringprep::tables::unassigned_code_point);
    prepared(name)
        .ok()
        .or_else(|| is_unknown().then_some(Cow::Borrowed(name)))
}

/// What the server keeps of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Credentials {
    /// The credentials of a password, with a fresh salt.
    ///
    /// # Errors
    /// When the password cannot be prepared.
    pub fn new(password: &str) -> Result<Self, NotPrepared> {
        let mut salt = [0; SALT_LEN];
        rand::rng().fill_bytes(&mut salt);
        Ok(Self::derive(&prepared(password)?, &salt, ITERATIONS))
    }

    fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted: Key =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        let client_key = sign(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// As it stands in the file.
    pub fn to_line(&self) -> String {
        format!(
            "{METHOD}${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '$');
        parts.next().filter(|method| *method == METHOD)?;
        let (iterations, salt) = parts.next()?.split_once(':')?;
        let (stored_key, server_key) = parts.next()?.split_once(':')?;
        let key = |text| Key::try_from(BASE64.decode(text).ok()?).ok();
        let iterations = iterations.parse().ok()?;
        (iterations >= MIN_ITERATIONS).then_some(Self {
            iterations,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

fn sign(key: &[u8], data: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// Users and their credentials.
type Users = HashMap<String, Credentials>;

const LINES: Form<Credentials> = Form {
    shape: "user:SCRAM-SHA-256$…",
    name: |name| {
        if name.len() > MAX_NAME {
            return Err("this user name is longer than 1024 bytes");
        }
        let name =
            prepared(name).map_err(|_| "SASLprep (RFC 4013) does not take this user name")?;
        Ok(name.into_owned())
    },
    secret: |text| {
        Credentials::parse(text)
            .ok_or("these are no SCRAM-SHA-256 credentials; use `weir passwd --scram`")
    },
    help: "`weir passwd --scram FILE USER` writes such lines",
};

/// The mechanism over a file.
pub struct ScramFile {
    users: Arc<ArcSwap<Users>>,
    /// Makes the salts of users who do not exist, so that asking twice gives the same.
    secret: Key,
}

impl ScramFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or the first line that is wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Vec<Problem>> {
        Self::of(&crate::config::read(path.as_ref())?)
    }

    /// The users of a text.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn of(source: &Source) -> Result<Self, Vec<Problem>> {
        let users = LINES.read(source)?;
        let mut secret = Key::default();
        rand::rng().fill_bytes(&mut secret);
        Ok(Self {
            users: Arc::new(ArcSwap::from_pointee(users)),
            secret,
        })
    }

    /// Takes the users of a text from now on, or only looks whether it could. Gives their number.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn take(&self, source: &Source, apply: bool) -> Result<usize, Vec<Problem>> {
        let users = LINES.read(source)?;
        let count = users.len();
        if apply {
            self.users.store(Arc::new(users));
        }
        Ok(count)
    }
}

impl Mechanism for ScramFile {
    fn name(&self) -> &str {
        METHOD
    }

    fn begin(&self) -> Box<dyn Exchange> {
        let mut random = [0; 18];
        rand::rng().fill_bytes(&mut random);
        Box::new(Conversation {
            users: self.users.load_full(),
            secret: self.secret,
            nonce: BASE64.encode(random),
            state: State::First,
        })
    }
}

/// One client that signs in.
struct Conversation {
    users: Arc<Users>,
    secret: Key,
    /// The server's part.
    nonce: String,
    state: State,
}

enum State {
    /// The client's first message comes next.
    First,
    /// The client's proof comes next.
    Final(Box<Challenge>),
    /// Nothing more may come.
    Over,
}

struct Challenge {
    username: Utf8,
    /// `None` for a user who does not exist: that is found out where a wrong password is.
    credentials: Option<Credentials>,
    /// Both parts.
    nonce: String,
    /// The beginning of the client's first message, which it must repeat.
    header: String,
    /// Everything said so far that both sides sign.
    said: String,
}

impl Exchange for Conversation {
    fn step(&mut self, data: &[u8]) -> Step {
        let text = std::str::from_utf8(data).ok();
        let step = match (std::mem::replace(&mut self.state, State::Over), text) {
            (State::First, Some(text)) => self.challenge(text),
            (State::Final(challenge), Some(text)) => challenge.check(text),
            _ => None,
        };
        // One answer for all that can be wrong: nobody learns which it was.
        step.unwrap_or(Step::Refused(ReasonCode::NotAuthorized))
    }
}

impl Conversation {
    fn challenge(&mut self, first: &str) -> Option<Step> {
        let first = ClientFirst::parse(first)?;
        let credentials = self.users.get(&*first.username).cloned();
        let shown = match &credentials {
            Some(credentials) => (credentials.iterations, credentials.salt.clone()),
            None => {
                let salt = sign(&self.secret, first.username.as_bytes());
                (ITERATIONS, salt[..SALT_LEN].to_vec())
            }
        };
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let answer = format!("r={nonce},s={},i={}", BASE64.encode(shown.1), shown.0);
        self.state = State::Final(Box::new(Challenge {
            said: format!("{},{answer}", first.bare),
            header: first.header,
            username: Utf8::try_from(first.username).ok()?,
            credentials,
            nonce,
        }));
        Some(Step::Continue(answer.into()))
    }
}

impl Challenge {
    fn check(&self, last: &str) -> Option<Step> {
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let header = fields.next()?.strip_prefix("c=")?;
        if BASE64.decode(header).ok()? != self.header.as_bytes()
            || fields.next()?.strip_prefix("r=")? != self.nonce
        {
            return None;
        }
        let proof = Key::try_from(BASE64.decode(proof).ok()?).ok()?;
        let said = format!("{},{without_proof}", self.said);
        let credentials = self.credentials.as_ref()?;
        let mut client_key = sign(&credentials.stored_key, said.as_bytes());
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let stored_key: Key = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&credentials.stored_key)) {
            return None;
        }
        let signature = sign(&credentials.server_key, said.as_bytes());
        Some(Step::Done {
            identity: Identity {
                username: Some(self.username.clone()),
                ..Identity::default()
            },
            data: Some(Bytes::from(format!("v={}", BASE64.encode(signature)))),
        })
    }
}

/// `n,,n=user,r=nonce`
struct ClientFirst {
    header: String,
    bare: String,
    username: String,
    nonce: String,
}

impl ClientFirst {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ',');
        // `p=…` binds to the channel, which SCRAM-SHA-256 without -PLUS does not do. `y` says that the client could.
        let binding = parts.next().filter(|flag| matches!(*flag, "n" | "y"))?;
        let authorize_as = parts.next()?;
        let bare = parts.next()?;
        let mut fields = bare.split(',');
        // A mandatory extension `m=` in front fails here, as it must.
        let username = user_name(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let same =
            |name: &str| name.strip_prefix("a=").and_then(user_name).as_ref() == Some(&username);
        if username.is_empty()
            || nonce.is_empty()
            || !(authorize_as.is_empty() || same(authorize_as))
        {
            return None;
        }
        Some(Self {
            header: format!("{binding},{authorize_as},"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            username,
        })
    }
}

/// A user name as it is known here.
fn user_name(sent: &str) -> Option<String> {
    Some(asked_for(&unescape(sent)?)?.into_owned())
}

/// `=2C` is a comma and `=3D` an equals sign; nothing else may follow `=`.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn conversation() -> Conversation {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credentials = Credentials::derive("pencil", &salt, 4096);
        let users = HashMap::from_iter([("user".to_owned(), credentials)]);
        Conversation {
            users: Arc::new(users),
            secret: [7; 32],
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            state: State::First,
        }
    }

    fn refused() -> Step {
        Step::Refused(ReasonCode::NotAuthorized)
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let mut server = conversation();
        assert_eq!(
            server.step(FIRST.as_bytes()),
            Step::Continue(Bytes::from_static(CHALLENGE.as_bytes()))
        );
        let Step::Done { identity, data } = server.step(FINAL.as_bytes()) else {
            panic!("refused")
        };
        assert_eq!(identity.username, Some(Utf8::from("user")));
        assert_eq!(data.unwrap(), SIGNATURE);
        assert_eq!(server.step(FINAL.as_bytes()), refused(), "once only");
    }

    #[test]
    fn a_client_that_could_bind_to_the_channel_is_admitted_if_it_repeats_that() {
        let mut server = conversation();
        assert!(matches!(server.step(b"y,,n=user,r=abc"), Step::Continue(_)));
        // It says `n` now: someone on the way may have changed it.
        let changed = FINAL.replace("rOprNGfwEbeRWgbNEkqO", "abc");
        assert_eq!(server.step(changed.as_bytes()), refused());
        let bound = "p=tls-unique,,n=user,r=abc";
        assert_eq!(conversation().step(bound.as_bytes()), refused());
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        for changed in [
            FINAL.replace("biws", "eSws"),
            FINAL.replace("k0,p", "k1,p"),
            FINAL.replace("dHzb", "dHzc"),
            FINAL.replace(",p=", ",x=1,p="),
            FINAL.replace("ndVQ=", ""),
            String::new(),
        ] {
            let mut server = conversation();
            server.step(FIRST.as_bytes());
            assert_eq!(server.step(changed.as_bytes()), refused(), "{changed}");
        }
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        for first in [
            "",
            "n",
            "n,,",
            "n,,m=x,n=user,r=abc",
            "n,,n=user",
            "n,,n=,r=abc",
            "n,,n=user,r=",
            "n,a=other,n=user,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=us=2cer,r=abc",
        ] {
            assert_eq!(conversation().step(first.as_bytes()), refused(), "{first}");
        }
        assert_eq!(conversation().step(b"\xff"), refused());
        let same = "n,a=user,n=user,r=abc";
        assert!(matches!(
            conversation().step(same.as_bytes()),
            Step::Continue(_)
        ));
    }

    #[test]
    fn a_user_who_does_not_exist_looks_like_one_with_another_password() {
        let challenge = |name: &str| {
            let mut server = conversation();
            let first = format!("n,,n={name},r=abc");
            let Step::Continue(data) = server.step(first.as_bytes()) else {
                panic!("{name} was refused at once")
            };
            let last = FINAL.replace("rOprNGfwEbeRWgbNEkqO", "abc");
            assert_eq!(server.step(last.as_bytes()), refused());
            data
        };
        assert_eq!(challenge("nobody"), challenge("nobody"), "the salt stays");
        assert_ne!(challenge("nobody"), challenge("nobody2"));
    }

    /// The examples of RFC 4013.
    #[test]
    fn names_and_passwords_are_prepared() {
        for (text, expected) in [
            ("I\u{AD}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{AA}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{308} \u{3000}b", "\u{E4}  b"),
        ] {
            assert_eq!(prepared(text).unwrap(), expected, "{text:?}");
        }
        for text in [
            "\u{7}",
            "\u{627}\u{31}",
            "\u{AD}",
            "",
            "\u{E000}",
            "\u{1F600}",
        ] {
            assert_eq!(prepared(text), Err(NotPrepared), "{text:?}");
        }
        assert!(Credentials::new("\u{7}").is_err());
    }

    #[test]
    fn it_does_not_matter_how_a_name_and_a_password_were_typed() {
        // Made with another implementation of SASLprep, PBKDF2 and HMAC.
        const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=JvD5uB2+Cwi5ieOA6euGGiFtHWGka0AijyMdP1De/4s=";
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let password = prepared("p\u{AD}\u{E4}ss\u{A0}w\u{F6}rd\u{2168}").unwrap();
        let line = Credentials::derive(&password, &salt, 4096).to_line();
        let source = Source {
            path: "scram".into(),
            text: format!("\u{2168}-a:{line}").into(),
        };
        let mut server = conversation();
        server.users = Arc::new(LINES.read(&source).unwrap());
        let first = "n,,n=\u{2168}-\u{AA},r=rOprNGfwEbeRWgbNEkqO";
        assert!(matches!(server.step(first.as_bytes()), Step::Continue(_)));
        let Step::Done { identity, data } = server.step(FINAL.as_bytes()) else {
            panic!("refused")
        };
        assert_eq!(identity.username, Some(Utf8::from("IX-a")));
        assert_eq!(
            data.unwrap(),
            "v=T6zuaCEwqBUK+KFVlO56SsZVH9M0n3h6WGADDfrJ9Ho="
        );
    }

    #[test]
    fn a_user_name_that_cannot_be_is_refused_at_once_and_one_that_nobody_has_is_not() {
        let prohibited = "n,,n=\u{7},r=abc";
        assert_eq!(conversation().step(prohibited.as_bytes()), refused());
        let young = "n,,n=\u{1F600},r=abc";
        let answer = conversation().step(young.as_bytes());
        assert!(matches!(answer, Step::Continue(_)));
    }

    #[test]
    fn a_user_name_that_is_very_long_is_refused_unprepared() {
        let step = |name: &str| conversation().step(format!("n,,n={name},r=abc").as_bytes());
        let longest = "a".repeat(MAX_NAME);
        assert!(matches!(step(&longest), Step::Continue(_)));
        let refused = Step::Refused(ReasonCode::NotAuthorized);
        // One that grows sixfold when it is prepared.
        for name in [format!("{longest}a"), "\u{FDFA}".repeat(5000)] {
            assert_eq!(step(&name), refused);
        }
        let source = Source {
            path: "scram".into(),
            text: format!("{longest}a:x\n").into(),
        };
        let problems = LINES.read(&source).unwrap_err();
        assert!(problems[0].message.contains("longer than 1024 bytes"));
    }

    #[test]
    fn two_spellings_of_one_user_name_are_one_user() {
        let line = Credentials::derive("secret", b"0123456789abcdef", 4096).to_line();
        let source = Source {
            path: "scram".into(),
            text: format!("IX:{line}\n\u{2168}:{line}\n").into(),
        };
        let problems = LINES.read(&source).unwrap_err();
        assert_eq!(problems[0].line, 2);
        assert!(problems[0].message.contains("twice"));
    }

    #[test]
    fn names_with_commas_and_equals_signs_come_whole() {
        assert_eq!(unescape("a=2Cb=3Dc").unwrap(), "a,b=c");
        assert_eq!(unescape("a=2"), None);
        assert_eq!(unescape("a=ü"), None);
    }

    #[test]
    fn credentials_are_read_as_they_are_written() {
        let credentials = Credentials::derive("secret", b"0123456789abcdef", 4096);
        let line = credentials.to_line();
        assert_eq!(Credentials::parse(&line), Some(credentials));
        assert_eq!(Credentials::parse("$argon2id$x"), None);
        let weak = line.replace("$4096:", "$1:");
        assert_eq!(Credentials::parse(&weak), None);
    }
}
