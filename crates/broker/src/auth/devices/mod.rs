//! Devices that were made for a cloud and connect to weir instead: they sign as they always did, and weir checks the
//! signature with the secrets of a table (cloud-bridges §15).
//!
//! What a device is told is less than what the log says: unknown, switched off and wrongly signed look the same.

mod emulate;
mod memory;
mod postgres;
mod product;
mod register;
mod table;
mod throttle;
pub(crate) mod tokens;
mod topics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use weir_mqtt::{ReasonCode, Utf8};
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{
    Claim, Freshness, Presented, Reason, Scheme, Shows, Stamp, TimeCheck, Times,
};

use super::{Acl, Authenticator, ConnectRequest, Decision, Identity};
use crate::pipeline::world::now_ms;
use emulate::Pace;
use memory::{Memory, Sight};
use throttle::Throttle;
use tokens::Tokens;

pub use emulate::Cloud;
pub use postgres::{DevicesPostgres, PostgresDevices, device_statement};
pub use table::Table;
pub use tokens::TokenLease;

/// One device.
pub struct Device {
    scheme: Scheme,
    tenant: String,
    name: String,
    secret: Secret,
    /// Accepted as well, while a secret is being changed.
    next_secret: Option<Secret>,
    enabled: bool,
    /// Whether it is told its secret when it asks with its product's.
    register: bool,
    /// Its own topics; `None` where the broker's access list decides alone.
    acl: Option<Arc<Acl>>,
}

impl Device {
    /// What it is in the whole broker: the session's name, so that a new time in the client id is no new session.
    fn identity(&self) -> String {
        identity(self.scheme, &self.tenant, &self.name)
    }
}

fn identity(scheme: Scheme, tenant: &str, name: &str) -> String {
    format!("{}:{tenant}:{name}", scheme.name())
}

/// Where devices stand.
pub enum Source {
    /// A file that can change.
    Table(ArcSwap<Table>),
    /// A database.
    Postgres(PostgresDevices),
}

/// How devices are checked.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    /// Whose devices are listened to; others are nobody's.
    pub schemes: Vec<Scheme>,
    /// What holds for times.
    pub times: Times,
    /// Whether MD5 is good enough.
    pub allow_md5: bool,
    /// Whose devices are listened to at a listener of that name, where that is not `schemes`.
    pub listeners: BTreeMap<String, Vec<Scheme>>,
    /// Whether a product's access key signs for all of its devices.
    pub allow_product_token: bool,
    /// Whether a device is told its secret without TLS, too.
    pub allow_plain_provision: bool,
    /// Whether devices of Aliyun may leave their client id out of what they sign.
    pub lenient_content: bool,
    /// Whether devices are held to what their cloud enforces.
    pub emulate: bool,
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self {
            schemes: Scheme::ALL.to_vec(),
            times: Times::default(),
            allow_md5: true,
            listeners: BTreeMap::new(),
            allow_product_token: true,
            allow_plain_provision: false,
            lenient_content: false,
            emulate: false,
        }
    }
}

impl DeviceSettings {
    /// Whether devices of the scheme are listened to there.
    fn hears(&self, scheme: Scheme, listener: &str) -> bool {
        let schemes = self.listeners.get(listener).unwrap_or(&self.schemes);
        schemes.contains(&scheme)
    }
}

/// Admits devices that sign as their cloud wants it.
pub struct Devices {
    source: Source,
    settings: DeviceSettings,
    /// Tokens of Aliyun MQ. Who came in with one hears of it when they change.
    tokens: watch::Sender<Arc<Tokens>>,
    memory: Memory,
    throttle: Throttle,
    pace: Pace,
    refusals: Refusals,
    /// Lines in the log about secrets whose file cannot be read.
    unread: Seldom,
    /// Verified in place of the secret of a device that does not exist.
    nobody: Secret,
}

/// Refused devices, by scheme and reason.
#[derive(Default)]
struct Refusals([[Refusal; Reason::WORDS.len()]; Scheme::ALL.len()]);

/// One of them.
#[derive(Default)]
struct Refusal {
    count: AtomicU64,
    told: Seldom,
}

/// What is said once in a while: a device that keeps coming does not fill the log.
#[derive(Default)]
struct Seldom {
    /// When it was said last, in milliseconds since 1970.
    said_at_ms: AtomicI64,
}

impl Seldom {
    const EVERY_MS: u64 = 10_000;

    /// Whether it is to be said again; of two who ask at once one is to.
    fn is_due(&self, now_ms: i64) -> bool {
        let said_at_ms = self.said_at_ms.load(Relaxed);
        now_ms.abs_diff(said_at_ms) >= Self::EVERY_MS
            && self
                .said_at_ms
                .compare_exchange(said_at_ms, now_ms, Relaxed, Relaxed)
                .is_ok()
    }
}

impl Devices {
    /// The devices of `source`.
    pub fn new(source: Source, settings: DeviceSettings) -> Self {
        use base64::Engine as _;
        let nobody: [u8; 32] = rand::random();
        Self {
            source,
            settings,
            tokens: watch::Sender::default(),
            memory: Memory::default(),
            throttle: Throttle::default(),
            pace: Pace::default(),
            refusals: Refusals::default(),
            unread: Seldom::default(),
            // Base64 is a key of every scheme.
            nobody: Secret::new(base64::engine::general_purpose::STANDARD.encode(nobody)),
        }
    }

    /// The devices of a table.
    pub fn of(mut table: Table, settings: DeviceSettings) -> Self {
        let tokens = table.take_tokens();
        let devices = Self::new(Source::Table(ArcSwap::from_pointee(table)), settings);
        devices.tokens.send_replace(Arc::new(tokens));
        devices
    }

    /// Takes another table from now on. A database stays what it is.
    pub fn replace(&self, mut table: Table) {
        if let Source::Table(current) = &self.source {
            let tokens = table.take_tokens();
            current.store(Arc::new(table));
            self.tokens.send_replace(Arc::new(tokens));
        }
    }

    /// Keeps in `folder` what was seen of signatures, so that a restart does not forget it.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remember_in(&self, folder: &Path) -> std::io::Result<()> {
        if self.settings.times.check == TimeCheck::Cloud {
            return Ok(());
        }
        self.memory.open(&folder.join("devices.seen"), now_ms())
    }

    /// How many devices of each scheme were refused for each reason; those that were not, are left out.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let schemes = Scheme::ALL.iter().zip(&self.refusals.0);
        schemes.flat_map(|(scheme, counts)| {
            let counts = Reason::WORDS.iter().zip(counts);
            counts
                .map(|(reason, refusal)| (scheme.name(), *reason, refusal.count.load(Relaxed)))
                .filter(|(_, _, count)| *count > 0)
        })
    }

    async fn decide(&self, request: &ConnectRequest) -> Decision {
        let presented = Presented {
            client_id: &request.client_id,
            username: request.username.as_deref(),
            password: request.password.as_deref().unwrap_or_default(),
        };
        let Some(scheme) = presented.scheme() else {
            return Decision::Ignore;
        };
        if !self.settings.hears(scheme, &request.listener) {
            return Decision::Ignore;
        }
        match self.examine(scheme, &presented, request).await {
            Ok(identity) => Decision::Allow(identity),
            Err(reason) => {
                self.tell(scheme, &presented, reason);
                Decision::Deny(code(reason, request))
            }
        }
    }

    async fn examine(
        &self,
        scheme: Scheme,
        presented: &Presented<'_>,
        request: &ConnectRequest,
    ) -> Result<Identity, Reason> {
        let now = Instant::now();
        let peer = request.peer.map(|peer| peer.ip().to_canonical());
        let claim = presented.claim(scheme);
        let claimed = claim.as_ref().ok().map(|claim| {
            identity(
                scheme,
                claim.tenant.as_deref().unwrap_or_default(),
                &claim.device,
            )
        });
        if !self.throttle.admits(now, claimed.as_deref(), peer) {
            return Err(Reason::Throttled);
        }
        let verdict = match &claim {
            Ok(claim) => self.verify(claim, request).await,
            Err(reason) => Err(*reason),
        };
        match &verdict {
            Ok(_) => self.throttle.succeeded(claimed.as_deref(), peer),
            Err(Reason::Unavailable | Reason::MemoryFull) => {}
            Err(_) => self.throttle.failed(now, claimed.clone(), peer),
        }
        let mut identity = verdict?;
        if self.settings.emulate {
            // One that registers keeps the client id that it made up: it is counted as the device.
            let known_as = claimed.as_deref().unwrap_or(&request.client_id);
            self.pace.admits(now, scheme, known_as, request)?;
            identity.cloud = Cloud::of(scheme);
        }
        Ok(identity)
    }

    async fn verify(&self, claim: &Claim, request: &ConnectRequest) -> Result<Identity, Reason> {
        if claim.is_weak() && !self.settings.allow_md5 {
            return Err(Reason::WeakMethod);
        }
        match &claim.shows {
            Shows::Device | Shows::Product => {}
            Shows::Registers => return self.register(claim, request, false),
            Shows::AsksForToken => return self.register(claim, request, true),
            Shows::Tokens(shown) => return self.admit_tokens(claim, shown, request),
        }
        let device = match &self.source {
            Source::Table(table) => table.load().find(claim),
            Source::Postgres(database) => database.find(claim).await?,
        };
        let Some(device) = device else {
            // As much work as for one that exists.
            self.is_signed(claim, &self.nobody)?;
            return Err(Reason::UnknownDevice);
        };
        let signed = if claim.shows == Shows::Product {
            self.is_signed_by_product(claim)?
        } else {
            let mut signed = self.is_signed(claim, &device.secret)?;
            if let Some(next) = &device.next_secret {
                signed |= self.is_signed(claim, next)?;
            }
            signed
        };
        if !signed {
            return Err(Reason::WrongSignature);
        }
        if !device.enabled {
            return Err(Reason::Disabled);
        }
        let now_ms = now_ms();
        let fresh = self.settings.times.look(claim, request.encrypted, now_ms)?;
        let name = device.identity();
        if fresh != Freshness::Any {
            // Only what is rightly signed is remembered.
            let sight = Sight {
                identity: &name,
                claim,
                peer: request.peer.map(|peer| peer.ip().to_canonical()),
            };
            self.memory.admit(&fresh, &sight, now_ms)?;
        }
        let mut identity = admitted(&device, name, claim, request);
        // A signature that is taken a little late is good for that long.
        let skew_s = self.settings.times.skew_s;
        identity.expires_at_s = identity
            .expires_at_s
            .map(|at_s| at_s.saturating_add(skew_s));
        Ok(identity)
    }

    fn is_signed(&self, claim: &Claim, secret: &Secret) -> Result<bool, Reason> {
        let secret = secret.reveal().map_err(|error| {
            if self.unread.is_due(now_ms()) {
                tracing::error!(%error, "the secret of a device cannot be read from its file");
            }
            Reason::Unavailable
        })?;
        let signed = claim.is_signed_with(&secret);
        let leniently = self.settings.lenient_content && claim.is_signed_without_id_with(&secret);
        Ok(signed || leniently)
    }

    /// Whether the access key of the device's product has signed, where that is enough.
    fn is_signed_by_product(&self, claim: &Claim) -> Result<bool, Reason> {
        if !self.settings.allow_product_token {
            return Err(Reason::ProductKey);
        }
        let Source::Table(table) = &self.source else {
            return Ok(false);
        };
        let table = table.load();
        let key = table
            .product(claim)
            .map_or(&self.nobody, |product| &product.secret);
        Ok(self.is_signed(claim, key)? && table.product(claim).is_some())
    }

    /// Whether the table has the device and says that it may not come in.
    fn is_switched_off(&self, claim: &Claim) -> bool {
        match &self.source {
            Source::Table(table) => {
                (table.load().find(claim)).is_some_and(|device| !device.enabled)
            }
            Source::Postgres(_) => false,
        }
    }

    fn tell(&self, scheme: Scheme, presented: &Presented<'_>, reason: Reason) {
        let place = Scheme::ALL.iter().position(|known| *known == scheme);
        let word = Reason::WORDS.iter().position(|word| *word == reason.word());
        if let (Some(place), Some(word)) = (place, word) {
            let refusal = &self.refusals.0[place][word];
            refusal.count.fetch_add(1, Relaxed);
            if !refusal.told.is_due(now_ms()) {
                return;
            }
        }
        // Enough to find it by.
        let device: String = presented.client_id.chars().take(4).collect();
        let (scheme, help) = (scheme.name(), reason.help());
        tracing::warn!(scheme, device = %format!("{device}…"), reason = reason.word(), help, "a device is refused");
    }
}

/// What the device is told.
fn code(reason: Reason, request: &ConnectRequest) -> ReasonCode {
    match reason {
        Reason::Malformed(_) => ReasonCode::ClientIdentifierNotValid,
        Reason::Throttled | Reason::MemoryFull if request.version.is_v5() => {
            ReasonCode::QuotaExceeded
        }
        Reason::TooOften if request.version.is_v5() => ReasonCode::ConnectionRateExceeded,
        Reason::KeepAlive if request.version.is_v5() => ReasonCode::ImplementationSpecificError,
        // Code 3 of MQTT 3.1.1: come again later.
        Reason::Throttled | Reason::MemoryFull | Reason::TooOften | Reason::KeepAlive => {
            ReasonCode::ServerBusy
        }
        Reason::Unavailable => ReasonCode::ServerUnavailable,
        _ => ReasonCode::BadUserNameOrPassword,
    }
}

fn admitted(device: &Device, name: String, claim: &Claim, request: &ConnectRequest) -> Identity {
    let attributes = [
        ("auth_scheme", device.scheme.name()),
        ("product_key", &device.tenant),
        ("device_name", &device.name),
        ("client_id", &request.client_id),
    ];
    let attributes: BTreeMap<String, String> = attributes
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    // Azure cuts the link when the token ends; the others look at it in CONNECT alone.
    let expires_at_s = match (device.scheme, claim.stamp) {
        (Scheme::AzureIothub, Stamp::Until(until_s)) => i64::try_from(until_s).ok(),
        _ => None,
    };
    Identity {
        username: request.username.clone(),
        session: Utf8::try_from(name).ok(),
        subscriptions: if claim.leaves_subscribing {
            topics::server_side(&device.tenant, &device.name)
        } else {
            Vec::new()
        },
        acl: device.acl.clone(),
        expires_at_s,
        attributes,
        ..Identity::default()
    }
}

impl Authenticator for Devices {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}

#[cfg(test)]
mod tests;
