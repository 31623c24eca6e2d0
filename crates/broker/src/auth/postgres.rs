//! Users in a PostgreSQL database: one statement finds the user's row, another, where there is one, what it may do.
//!
//! Values from clients are bound, never pasted. A database that does not answer admits nobody.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _};
use tokio::sync::Semaphore;
use weir_mqtt::ReasonCode;

use super::password_hash::{SaltPosition, verify};
use super::{Acl, Authenticator, ConnectRequest, Decision, Identity};

/// Passwords that are hashed at once.
const MAX_CHECKS: usize = 2;

/// A statement whose places for values have become binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<B = Bind> {
    sql: String,
    binds: Vec<B>,
}

/// What a client says about itself that a statement may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The user name.
    Username,
    /// The client identifier.
    ClientId,
    /// The common name of the client's certificate.
    CertCn,
    /// The client's address.
    PeerHost,
}

const BINDS: [(&str, Bind); 5] = [
    ("${username}", Bind::Username),
    ("${clientid}", Bind::ClientId),
    ("${cert_cn}", Bind::CertCn),
    ("${cert_common_name}", Bind::CertCn),
    ("${peerhost}", Bind::PeerHost),
];

impl Statement {
    /// Reads a statement such as `SELECT password_hash FROM users WHERE name = ${username}`.
    ///
    /// # Errors
    /// The place that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::with(text, &BINDS)
    }
}

impl<B: Copy + PartialEq> Statement<B> {
    /// The statement, with numbers in the places.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// What stands for each number, in their order.
    pub(super) fn binds(&self) -> &[B] {
        &self.binds
    }

    /// Reads a statement with such places.
    pub(super) fn with(text: &str, places: &[(&str, B)]) -> Result<Self, String> {
        let (mut sql, mut binds) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            sql.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((word, bind)) = places.iter().find(|(word, _)| rest.starts_with(word)) else {
                let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                return Err(rest[..end].to_owned());
            };
            let number = match binds.iter().position(|known| known == bind) {
                Some(known) => known + 1,
                None => {
                    binds.push(*bind);
                    binds.len()
                }
            };
            sql.push('$');
            sql.push_str(&number.to_string());
            rest = &rest[word.len()..];
        }
        sql.push_str(rest);
        Ok(Self { sql, binds })
    }
}

/// How users are found.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// `postgres://…`
    pub url: weir_sinks::Secret,
    /// Gives at most one row with `password_hash`, and where they exist `salt`, `superuser` (or `is_superuser`).
    pub query: Statement,
    /// Gives rows of `permission`, `action` and `topic`.
    pub acl_query: Option<Statement>,
    /// Where the salt of a plain digest stands.
    pub salt_position: SaltPosition,
    /// The most connections to the database.
    pub max_connections: u32,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Admits the users of a database.
pub struct PostgresUsers {
    pool: PgPool,
    settings: PostgresSettings,
    checks: Arc<Semaphore>,
}

/// Why the settings cannot be used. Never with the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresUsersError {
    /// The URL is read from a file that cannot be read.
    #[error("the file with the URL cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// It is no URL of a PostgreSQL server.
    #[error("the URL is not of the form postgres://user:password@host/database")]
    Url,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The database does not answer or does not know the statement.
    Database(sqlx::Error),
    /// It took too long.
    Timeout,
    /// A row is not what it should be.
    Row(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Timeout => f.write_str("the database does not answer in time"),
            Self::Row(problem) => f.write_str(problem),
        }
    }
}

/// A pool that connects when it is asked. Must be called inside a tokio runtime.
pub(super) fn lazy_pool(
    url: &weir_sinks::Secret,
    max_connections: u32,
    timeout: Duration,
) -> Result<PgPool, PostgresUsersError> {
    let url = url.reveal()?;
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(PostgresUsersError::Url);
    }
    let options = PgConnectOptions::from_str(&url)
        .map_err(|_| PostgresUsersError::Url)?
        .application_name("weir-auth");
    Ok(PgPoolOptions::new()
        .max_connections(max_connections.max(1))
        .acquire_timeout(timeout)
        .connect_lazy_with(options))
}

impl PostgresUsers {
    /// Nothing is asked before the first client comes: weir may start before its database. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the URL cannot be one.
    pub fn open(settings: PostgresSettings) -> Result<Self, PostgresUsersError> {
        let pool = lazy_pool(&settings.url, settings.max_connections, settings.timeout)?;
        Ok(Self {
            pool,
            settings,
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
        })
    }

    async fn decide(&self, request: &ConnectRequest) -> Decision {
        let Some(username) = &request.username else {
            return Decision::Ignore;
        };
        let found = tokio::time::timeout(self.settings.timeout, self.find(request));
        let user = match found.await.unwrap_or(Err(Failure::Timeout)) {
            Ok(Some(user)) => user,
            Ok(None) => return Decision::Ignore,
            Err(failure) => return unavailable(&failure),
        };
        let password = request.password.clone().unwrap_or_default();
        let position = self.settings.salt_position;
        let (hash, salt) = (user.hash, user.salt);
        // Closed never: the semaphore lives as long as `self`.
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else {
            return Decision::Deny(ReasonCode::ServerBusy);
        };
        let check = move || {
            let _permit = permit;
            verify(&password, &hash, salt.as_deref(), position)
        };
        if !tokio::task::spawn_blocking(check).await.unwrap_or(false) {
            return Decision::Deny(ReasonCode::BadUserNameOrPassword);
        }
        Decision::Allow(Identity {
            superuser: user.superuser,
            acl: user.acl.map(Arc::new),
            attributes: user.attributes,
            ..Identity::user(username.clone())
        })
    }

    async fn find(&self, request: &ConnectRequest) -> Result<Option<User>, Failure> {
        let rows = self.ask(&self.settings.query, request).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let mut user = User::read(row)?;
        if let Some(query) = &self.settings.acl_query {
            let rows = self.ask(query, request).await?;
            user.acl = Some(read_acl(&rows)?);
        }
        Ok(Some(user))
    }

    async fn ask(
        &self,
        statement: &Statement,
        request: &ConnectRequest,
    ) -> Result<Vec<PgRow>, Failure> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
        for bind in &statement.binds {
            query = query.bind(match bind {
                Bind::Username => request.username.as_ref().map(ToString::to_string),
                Bind::ClientId => Some(request.client_id.to_string()),
                Bind::CertCn => request.cert_cn().map(str::to_owned),
                Bind::PeerHost => request
                    .peer
                    .map(|peer| peer.ip().to_canonical().to_string()),
            });
        }
        query.fetch_all(&self.pool).await.map_err(Failure::Database)
    }
}

/// `[MQTT-3.2.2-6]` The client may come again: it is not told that its password is wrong.
fn unavailable(failure: &Failure) -> Decision {
    match failure {
        // The driver's message names hosts and columns, never values.
        Failure::Database(error) => tracing::error!(%error, "users cannot be looked up"),
        Failure::Timeout => {
            tracing::error!("users cannot be looked up: the database does not answer in time")
        }
        Failure::Row(problem) => tracing::error!(problem, "the row of a user cannot be used"),
    }
    Decision::Deny(ReasonCode::ServerUnavailable)
}

/// A user's row.
struct User {
    hash: String,
    salt: Option<String>,
    superuser: bool,
    acl: Option<Acl>,
    attributes: BTreeMap<String, String>,
}

impl User {
    fn read(row: &PgRow) -> Result<Self, Failure> {
        let hash = text(row, "password_hash")?
            .ok_or_else(|| Failure::Row("`password_hash` is NULL or missing".to_owned()))?;
        let mut attributes = BTreeMap::new();
        let mut superuser = false;
        for column in row.columns() {
            let name = column.name();
            match name {
                "password_hash" | "salt" => {}
                "superuser" | "is_superuser" => superuser = truth(row, name)?,
                _ => {
                    if let Ok(Some(value)) = row.try_get::<Option<String>, _>(name) {
                        attributes.insert(name.to_owned(), value);
                    }
                }
            }
        }
        Ok(Self {
            hash,
            salt: text(row, "salt")?,
            superuser,
            acl: None,
            attributes,
        })
    }
}

/// A text column; `None` when it is NULL or not there.
pub(super) fn text(row: &PgRow, name: &str) -> Result<Option<String>, Failure> {
    match row.try_get(name) {
        Ok(value) => Ok(value),
        Err(sqlx::Error::ColumnNotFound(_)) => Ok(None),
        Err(_) => Err(Failure::Row(format!("`{name}` is no text"))),
    }
}

/// A boolean, or a number that is 0 or not.
pub(super) fn truth(row: &PgRow, name: &str) -> Result<bool, Failure> {
    row.try_get::<Option<bool>, _>(name)
        .map(|value| value.unwrap_or(false))
        .or_else(|_| {
            row.try_get::<Option<i32>, _>(name)
                .map(|value| value.unwrap_or(0) != 0)
        })
        .or_else(|_| {
            row.try_get::<Option<i16>, _>(name)
                .map(|value| value.unwrap_or(0) != 0)
        })
        .map_err(|_| Failure::Row(format!("`{name}` is neither a boolean nor a number")))
}

fn read_acl(rows: &[PgRow]) -> Result<Acl, Failure> {
    let rules = rows
        .iter()
        .map(|row| {
            let mut rule = serde_json::Map::new();
            for name in ["permission", "action", "topic"] {
                if let Some(value) = text(row, name)? {
                    rule.insert(name.to_owned(), value.into());
                }
            }
            Ok(rule.into())
        })
        .collect::<Result<Vec<serde_json::Value>, Failure>>()?;
    Acl::from_json(&rules.into()).map_err(|error| Failure::Row(error.to_string()))
}

impl Authenticator for PostgresUsers {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_binds_and_nothing_is_pasted() {
        let statement = Statement::parse(
            "SELECT h FROM u WHERE n = ${username} AND (c = ${clientid} OR m = ${username})",
        )
        .unwrap();
        assert_eq!(
            statement.sql,
            "SELECT h FROM u WHERE n = $1 AND (c = $2 OR m = $1)"
        );
        assert_eq!(statement.binds, [Bind::Username, Bind::ClientId]);
        assert_eq!(
            Statement::parse("SELECT ${password}").unwrap_err(),
            "${password}"
        );
        assert_eq!(Statement::parse("SELECT ${user").unwrap_err(), "${user");
    }
}
