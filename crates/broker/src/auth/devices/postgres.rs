//! Devices in a PostgreSQL database: a statement finds the row of the one that connects.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{Claim, Reason, Scheme};

use super::table::{Profile, Row};
use super::{Device, Seldom};
use crate::auth::postgres::{PostgresUsersError, Statement, lazy_pool, text, truth};
use crate::pipeline::world::now_ms;

/// Product ids of Tencent have ten letters; device names follow without a sign between.
const TENCENT_PRODUCT: usize = 10;
const PLACES: [(&str, Place); 3] = [
    ("${scheme}", Place::Scheme),
    ("${tenant_key}", Place::Tenant),
    ("${device}", Place::Device),
];

/// What a statement may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The scheme's name.
    Scheme,
    /// Product key, product id, instance, core or host.
    Tenant,
    /// The device's name.
    Device,
}

/// Reads a statement such as `SELECT secret FROM devices WHERE scheme = ${scheme} AND device = ${device}`.
///
/// # Errors
/// The place that is not known.
pub fn device_statement(text: &str) -> Result<Statement<Place>, String> {
    Statement::with(text, &PLACES)
}

/// How devices are found.
#[derive(Clone, Debug)]
pub struct DevicesPostgres {
    /// `postgres://…`
    pub url: Secret,
    /// Gives at most one row with `secret`, and where they exist `next_secret`, `enabled` and `acl_profile`.
    pub query: Statement<Place>,
    /// The most connections to the database.
    pub max_connections: u32,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A database of devices.
pub struct PostgresDevices {
    pool: PgPool,
    query: Statement<Place>,
    timeout: Duration,
    told: Seldom,
}

impl PostgresDevices {
    /// Nothing is asked before the first device comes. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the URL cannot be one.
    pub fn open(settings: DevicesPostgres) -> Result<Self, PostgresUsersError> {
        let pool = lazy_pool(&settings.url, settings.max_connections, settings.timeout)?;
        Ok(Self {
            pool,
            query: settings.query,
            timeout: settings.timeout,
            told: Seldom::default(),
        })
    }

    /// The device that a claim is about. A row that cannot be used and a database that does not answer admit nobody.
    pub(super) async fn find(&self, claim: &Claim) -> Result<Option<Arc<Device>>, Reason> {
        let Some((tenant, device)) = names(claim) else {
            return Ok(None);
        };
        let mut query = sqlx::query(AssertSqlSafe(self.query.sql().to_owned()));
        for place in self.query.binds() {
            query = query.bind(match place {
                Place::Scheme => claim.scheme.name(),
                Place::Tenant => tenant,
                Place::Device => device,
            });
        }
        let rows = tokio::time::timeout(self.timeout, query.fetch_all(&self.pool)).await;
        let unavailable = |problem: String| {
            if self.told.is_due(now_ms()) {
                tracing::error!(problem, "devices cannot be looked up");
            }
            Reason::Unavailable
        };
        let rows = rows
            .map_err(|_| unavailable("the database does not answer in time".to_owned()))?
            // The driver's message names hosts and columns, never values.
            .map_err(|error| unavailable(error.to_string()))?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        read(row, claim.scheme, tenant, device)
            .map(|device| Some(Arc::new(device)))
            .map_err(unavailable)
    }
}

fn names(claim: &Claim) -> Option<(&str, &str)> {
    match &claim.tenant {
        Some(tenant) => Some((tenant, &claim.device)),
        None if claim.scheme == Scheme::TencentIot => {
            claim.device.split_at_checked(TENCENT_PRODUCT)
        }
        None => Some(("", &claim.device)),
    }
}

fn read(row: &PgRow, scheme: Scheme, tenant: &str, device: &str) -> Result<Device, String> {
    let column = |name| text(row, name).map_err(|failure| failure.to_string());
    let secret = column("secret")?.ok_or("`secret` is NULL or missing")?;
    let mut found = Row::new(
        scheme,
        tenant.to_owned(),
        device.to_owned(),
        Secret::new(secret),
    );
    found.next_secret = column("next_secret")?
        .filter(|secret| !secret.is_empty())
        .map(Secret::new);
    if row.try_get_raw("enabled").is_ok() {
        found.enabled = truth(row, "enabled").map_err(|failure| failure.to_string())?;
    }
    found.acl_profile = match column("acl_profile")?.as_deref() {
        None | Some("cloud") => Profile::Cloud,
        Some("open") => Profile::Open,
        Some(_) => return Err("`acl_profile` is neither cloud nor open".to_owned()),
    };
    found
        .device()
        .map_err(|wrong| format!("`{}`: {}", wrong.key, wrong.message))
}
