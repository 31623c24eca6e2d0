//! Users and password hashes in a file of `user:hash` lines: argon2id as `weir passwd` makes them, or what other
//! brokers wrote, so that users can move in.
//!
//! Hashing is slow by design: it runs apart from the network tasks, a few at a time, and takes as long for a user
//! who does not exist. The file can be read again while the broker runs.

use std::path::Path;
use std::sync::Arc;

use ahash::HashMap;
use arc_swap::ArcSwap;
use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use weir_mqtt::ReasonCode;

use crate::problem::{Problem, Source};

use super::password_hash::{self, SaltPosition};
use super::user_lines::{Form, as_it_stands};
use super::{Authenticator, ConnectRequest, Decision, Identity};

/// Passwords that are being checked at once; each takes some 20 MiB and a core for a moment.
const MAX_CHECKS: usize = 2;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash the password: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// Users and their password hashes.
type Users = HashMap<String, String>;

const LINES: Form<String> = Form {
    shape: "user:hash",
    name: as_it_stands,
    secret: check_hash,
    help: "`weir passwd FILE USER` writes such lines",
};

fn check_hash(hash: &str) -> Result<String, &'static str> {
    if password_hash::is_for_files(hash) {
        Ok(hash.to_owned())
    } else {
        Err("this is no argon2id, bcrypt or PBKDF2 hash; use `weir passwd`")
    }
}

/// Admits the users of a password file.
pub struct PasswordFile {
    users: ArcSwap<Users>,
    /// Checked in place of a user who does not exist.
    nobody: Arc<str>,
    checks: Arc<Semaphore>,
}

impl PasswordFile {
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
        let nobody = hash_password("a user who does not exist")
            .map_err(|error| vec![Problem::whole(&source.path, "E1013", error.to_string())])?;
        Ok(Self {
            users: ArcSwap::from_pointee(users),
            nobody: nobody.into(),
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
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

    async fn decide(&self, request: &ConnectRequest) -> Decision {
        let Some(username) = &request.username else {
            return Decision::Ignore;
        };
        let known = self
            .users
            .load()
            .get(&**username)
            .map(|hash| Arc::from(hash.as_str()));
        let Some(hash) = known else {
            return Decision::Ignore;
        };
        let password = request.password.clone().unwrap_or_default();
        // An empty password is none: a hash of it in the file was a mistake.
        let is_given = !password.is_empty();
        if self.verify(hash, password).await && is_given {
            Decision::Allow(Identity::user(username.clone()))
        } else {
            Decision::Deny(ReasonCode::BadUserNameOrPassword)
        }
    }

    /// Takes as long as for a user who exists.
    pub(super) async fn pretend(&self, request: &ConnectRequest) {
        let password = request.password.clone().unwrap_or_default();
        self.verify(Arc::clone(&self.nobody), password).await;
    }

    async fn verify(&self, hash: Arc<str>, password: Bytes) -> bool {
        // Closed never: the semaphore lives as long as `self`.
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else {
            return false;
        };
        let check = move || {
            // Held until the hash is made, even if nobody waits for it any more.
            let _permit = permit;
            password_hash::verify(&password, &hash, None, SaltPosition::default())
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }
}

impl Authenticator for PasswordFile {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}

/// The argon2id hash of a password in PHC form, as it stands in the file.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(HashError)
}

/// Whether `password` is the one that `hash` was made of.
pub fn verify_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use weir_mqtt::Utf8;

    use super::*;
    use crate::auth::tests::request;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_check_that_nobody_waits_for_keeps_its_place_until_it_is_done() {
        let file = file(&format!("alice:{}\n", hash_password("secret").unwrap()));
        let auth = PasswordFile::open(file.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            // The only thread for hashes is busy, so that the check cannot end.
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let request = request(Some("alice"), "secret", false);
            let mut check = auth.authenticate(&request);
            assert!(futures_util::poll!(&mut check).is_pending());
            drop(check);
            assert_eq!(auth.checks.available_permits(), MAX_CHECKS - 1);
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            let all = u32::try_from(MAX_CHECKS).unwrap();
            drop(auth.checks.acquire_many(all).await.unwrap());
        });
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_admitted() {
        let text = format!("# users\n\nalice:{}\n", hash_password("secret").unwrap());
        let file = file(&text);
        let auth = PasswordFile::open(file.path()).unwrap();
        let alice = Decision::Allow(Identity::user(Utf8::from("alice")));
        let answer = |username, password| {
            let auth = &auth;
            async move { auth.authenticate(&request(username, password, true)).await }
        };
        assert_eq!(answer(Some("alice"), "secret").await, alice);
        let bad = Decision::Deny(ReasonCode::BadUserNameOrPassword);
        assert_eq!(answer(Some("alice"), "wrong").await, bad);
        // Others may know them.
        let bob = answer(Some("bob"), "a user who does not exist").await;
        assert_eq!(bob, Decision::Ignore);
        assert_eq!(answer(None, "").await, Decision::Ignore);
    }

    #[tokio::test]
    async fn an_empty_password_admits_nobody_even_if_the_file_has_its_hash() {
        let file = file(&format!("alice:{}\n", hash_password("").unwrap()));
        let auth = PasswordFile::open(file.path()).unwrap();
        let answer = auth.authenticate(&request(Some("alice"), "", false)).await;
        assert_eq!(answer, Decision::Deny(ReasonCode::BadUserNameOrPassword));
    }

    #[tokio::test]
    async fn users_of_a_password_file_of_mosquitto_keep_their_passwords() {
        // Of `secret`, as mosquitto_passwd writes it since version 2 and before.
        let file = file(
            "ann:$7$101$o3j5laTDyNjUlBNt$o1fFERnURqoGOGSQ551I/C1HPE2r9LWZkEcbwFtbokVSc8U1pMqJg2raaGy8eBRjDnYbQG1nRIQp0jwTFM8S9A==\n\
             bob lee:$6$DoDNd1zihN97gVTB$Vp+LO+y/dpJNN7TSs13CsWVJ6/pFAyKDykcZRHCcL//sJHK/D59dJOqDiQtCRUDlkTJPJjqiDZfD/lTOf9SYZQ==\n",
        );
        let auth = PasswordFile::open(file.path()).unwrap();
        for user in ["ann", "bob lee"] {
            let right = auth
                .authenticate(&request(Some(user), "secret", false))
                .await;
            assert_eq!(right, Decision::Allow(Identity::user(Utf8::from(user))));
            for wrong in ["Secret", ""] {
                let answer = auth.authenticate(&request(Some(user), wrong, false)).await;
                let refused = Decision::Deny(ReasonCode::BadUserNameOrPassword);
                assert_eq!(answer, refused, "{user}");
            }
        }
    }

    #[tokio::test]
    async fn users_of_other_brokers_keep_their_passwords() {
        // bcrypt of `U*U`, and PBKDF2 of `secret` as mosquitto writes it.
        let bcrypt = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let mut made = [0; 64];
        pbkdf2::pbkdf2_hmac::<sha2::Sha512>(b"secret", b"123456789012", 101, &mut made);
        let encoded = |bytes: &[u8]| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        let mosquitto = format!("$7$101${}${}", encoded(b"123456789012"), encoded(&made));
        let file = file(&format!("alice:{bcrypt}\nbob:{mosquitto}\n"));
        let auth = PasswordFile::open(file.path()).unwrap();
        let allowed = async |username, password| {
            let request = request(Some(username), password, false);
            matches!(auth.authenticate(&request).await, Decision::Allow(_))
        };
        assert!(allowed("alice", "U*U").await && !allowed("alice", "secret").await);
        assert!(allowed("bob", "secret").await && !allowed("bob", "U*U").await);
    }

    #[tokio::test]
    async fn a_reload_takes_effect_and_a_broken_file_changes_nothing() {
        let file = file(&format!("alice:{}\n", hash_password("one").unwrap()));
        let auth = PasswordFile::open(file.path()).unwrap();
        std::fs::write(
            file.path(),
            format!("alice:{}\n", hash_password("two").unwrap()),
        )
        .unwrap();
        let reload = || auth.take(&crate::config::read(file.path()).unwrap(), true);
        reload().unwrap();
        let allowed = async |password| {
            matches!(
                auth.authenticate(&request(Some("alice"), password, false))
                    .await,
                Decision::Allow(_)
            )
        };
        assert!(allowed("two").await && !allowed("one").await);
        std::fs::write(file.path(), "alice two\n").unwrap();
        let problems = reload().unwrap_err();
        assert_eq!(
            (problems[0].line, &*problems[0].message),
            (1, "expected `user:hash`")
        );
        assert!(
            !problems[0].to_string().contains("two"),
            "the line may hold a password"
        );
        assert!(allowed("two").await);
    }

    #[test]
    fn hashes_of_other_kinds_are_refused() {
        assert!(check_hash("secret").is_err());
        assert!(check_hash("$5$rounds=1$x$y").is_err());
        for broken in [
            "$6$",
            "$6$c2FsdA==",
            "$6$c2FsdA==$",
            "$6$x{$eA==",
            "$7$101$c2FsdA==",
            "$7$0$c2FsdA==$eA==",
        ] {
            assert!(check_hash(broken).is_err(), "{broken}");
        }
        // A digest that is fast to guess.
        assert!(check_hash(&"0".repeat(64)).is_err());
        assert!(check_hash(&hash_password("secret").unwrap()).is_ok());
    }
}
