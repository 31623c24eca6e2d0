//! Tokens that somebody has issued to clients of Aliyun MQ (cloud-bridges §3): who has them may come in until they end,
//! is told before, and may show others meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{Claim, Reason, Rights, Scheme, ShownToken};

use super::table::Wrong;
use super::{Devices, identity, topics};
use crate::auth::{Acl, ConnectRequest, Identity};
use crate::pipeline::world::now_ms;

/// Where a client shows another token.
pub(crate) const UPLOAD: &str = "$SYS/uploadToken";
const EXPIRES: &str = "$SYS/tokenExpireNotice";
const INVALID: &str = "$SYS/tokenInvalidNotice";
/// How long before its end a client is told of it, in milliseconds.
const EARLY_MS: i64 = 300_000;

/// Why a token is not good, as the cloud numbers it.
const FORGED: i64 = 1;
const EXPIRED: i64 = 2;
const REVOKED: i64 = 3;
const OTHER_TOPICS: i64 = 4;
const OTHER_RIGHTS: i64 = 5;
/// The longest wait for an end: the clock on the wall may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// One token as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRow {
    scheme: String,
    tenant_key: String,
    device: String,
    #[serde(rename = "type")]
    rights: String,
    token: Secret,
    expires_ms: Option<i64>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
}

/// Every token, by instance and client id.
#[derive(Default)]
pub(super) struct Tokens(HashMap<(String, String), Vec<Issued>>);

struct Issued {
    rights: Rights,
    token: Secret,
    expires_ms: Option<i64>,
    topics: Vec<String>,
}

impl Issued {
    /// Whether this is what a client shows. Compared in constant time.
    fn is(&self, shown: &ShownToken) -> bool {
        let issued = self.token.reveal().unwrap_or_default();
        shown.is(&issued) && self.rights == shown.rights
    }

    /// Each once and in order.
    fn topics(&self) -> BTreeSet<String> {
        self.topics.iter().cloned().collect()
    }

    fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|ends_ms| ends_ms <= now_ms)
    }
}

impl Tokens {
    /// Takes one token more.
    pub(super) fn add(&mut self, row: TokenRow) -> Result<(), Wrong> {
        let wrong = |key, message: String, help| Err(Wrong { key, message, help });
        if row.scheme != Scheme::AliyunMq.name() {
            let message = "only clients of aliyun_mq have tokens".to_owned();
            return wrong("scheme", message, "scheme = \"aliyun_mq\"");
        }
        for (key, name) in [("tenant_key", &row.tenant_key), ("device", &row.device)] {
            topics::check_name(Scheme::AliyunMq, key, name)?;
        }
        if row.tenant_key.is_empty() {
            let message = "`tenant_key` is empty".to_owned();
            return wrong("tenant_key", message, "it is the instance's id");
        }
        let Some(rights) = Rights::named(&row.rights) else {
            let message = "`type` is not R, W or RW".to_owned();
            return wrong("type", message, "write it as it was issued");
        };
        let usable = row.token.reveal().ok();
        if usable.is_none_or(|token| ShownToken::new(rights, &token).is_none()) {
            let message = "`token` is empty, too long, holds `|` or cannot be read".to_owned();
            return wrong("token", message, "copy it whole as it was issued");
        }
        if let Err(message) = acl_of(&[(rights, &row.topics)]) {
            let message = format!("`topics`: {message}");
            return wrong("topics", message, "each is a topic filter such as line/7/#");
        }
        let of = self.0.entry((row.tenant_key, row.device)).or_default();
        of.push(Issued {
            rights,
            token: row.token,
            expires_ms: row.expires_ms,
            topics: row.topics,
        });
        Ok(())
    }

    fn of(&self, tenant: &str, device: &str) -> &[Issued] {
        let key = (tenant.to_owned(), device.to_owned());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The one that is shown, or why there is none. All are looked at.
    fn find(
        &self,
        tenant: &str,
        device: &str,
        shown: &ShownToken,
        now_ms: i64,
    ) -> Result<&Issued, i64> {
        let issued = self.of(tenant, device).iter();
        let found = issued.fold(None, |found, one| {
            let is = one.is(shown);
            if is { Some(one) } else { found }
        });
        match found {
            Some(one) if one.is_over(now_ms) => Err(EXPIRED),
            Some(one) => Ok(one),
            None => Err(FORGED),
        }
    }
}

impl Devices {
    /// Admits a client that shows tokens: each has to be good.
    pub(super) fn admit_tokens(
        &self,
        claim: &Claim,
        shown: &[ShownToken],
        request: &ConnectRequest,
    ) -> Result<Identity, Reason> {
        let (tenant, device) = (claim.tenant.as_deref().unwrap_or_default(), &claim.device);
        let issued = Arc::clone(&self.tokens.borrow());
        let now_ms = now_ms();
        let found: Result<Vec<&Issued>, i64> = shown
            .iter()
            .map(|shown| issued.find(tenant, device, shown, now_ms))
            .collect();
        let found = found.map_err(|code| match code {
            EXPIRED => Reason::Expired,
            _ => Reason::UnknownToken,
        })?;
        if self.is_switched_off(claim) {
            return Err(Reason::Disabled);
        }
        self.settings.times.look(claim, request.encrypted, now_ms)?;
        let rights: Vec<_> = found
            .iter()
            .map(|issued| (issued.rights, issued.topics.as_slice()))
            .collect();
        let acl = acl_of(&rights).map_err(|_| Reason::Unavailable)?;
        let lease = TokenLease {
            issued: self.tokens.subscribe(),
            tenant: tenant.to_owned(),
            device: device.clone(),
            held: Mutex::new(
                (shown.iter().cloned().zip(&found))
                    .map(|(shown, issued)| Held::new(shown, issued.topics()))
                    .collect(),
            ),
            renewed: Notify::new(),
        };
        let attributes = [
            ("auth_scheme", claim.scheme.name()),
            ("product_key", tenant),
            ("device_name", device),
            ("client_id", &request.client_id),
        ];
        Ok(Identity {
            username: request.username.clone(),
            session: weir_mqtt::Utf8::try_from(identity(claim.scheme, tenant, device)).ok(),
            acl: acl.map(Arc::new),
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            lease: Some(Arc::new(lease)),
            ..Identity::default()
        })
    }
}

/// What tokens let a client do. Where none names topics, the broker's access list says the rest.
fn acl_of(tokens: &[(Rights, &[String])]) -> Result<Option<Acl>, String> {
    let may = |wanted| {
        let mut rights = tokens.iter().map(|(rights, _)| *rights);
        rights.any(|rights| rights == Rights::Both || rights == wanted)
    };
    let name_topics = tokens.iter().any(|(_, topics)| !topics.is_empty());
    let mut rules = Vec::new();
    for (rights, topics) in tokens.iter().filter(|_| name_topics) {
        let action = match rights {
            Rights::Read => "subscribe",
            Rights::Write => "publish",
            Rights::Both => "all",
        };
        let all = ["#".to_owned()];
        let topics = if topics.is_empty() { &all[..] } else { topics };
        rules.extend(
            topics
                .iter()
                .map(|topic| json!({"permission": "allow", "action": action, "topic": topic})),
        );
    }
    let acl = Acl::from_json(&Value::Array(rules)).map_err(|error| error.to_string())?;
    Ok(match (name_topics, may(Rights::Read), may(Rights::Write)) {
        (true, ..) => Some(acl.closed()),
        (false, true, true) => None,
        (false, false, _) => Some(acl.without_subscribing()),
        (false, true, false) => Some(acl.without_publishing()),
    })
}

/// What a client was let in for, for as long as it is good.
pub struct TokenLease {
    issued: watch::Receiver<Arc<Tokens>>,
    tenant: String,
    device: String,
    held: Mutex<Vec<Held>>,
    renewed: Notify,
}

struct Held {
    token: ShownToken,
    /// What it was issued for.
    topics: BTreeSet<String>,
    /// The client was told when it ends.
    told: bool,
}

impl Held {
    const fn new(token: ShownToken, topics: BTreeSet<String>) -> Self {
        Self {
            token,
            topics,
            told: false,
        }
    }
}

impl PartialEq for TokenLease {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for TokenLease {}

impl std::fmt::Debug for TokenLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenLease")
            .field("tenant", &self.tenant)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// What a client is told without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The topic.
    pub(crate) topic: &'static str,
    /// JSON.
    pub(crate) payload: String,
}

/// How a lease stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What the client is to be told now.
    pub(crate) notices: Vec<Notice>,
    /// It is over: the last of the notices says why.
    pub(crate) over: bool,
    /// When to look again, in milliseconds since 1970; `None` where nothing ends.
    pub(crate) next_ms: Option<i64>,
}

impl TokenLease {
    /// How it stands now. Each token's end is told once.
    pub(crate) fn look(&self, now_ms: i64) -> Standing {
        let issued = Arc::clone(&self.issued.borrow());
        let mut standing = Standing::default();
        for held in &mut *self.held.lock() {
            let rights = held.token.rights;
            match issued.find(&self.tenant, &self.device, &held.token, now_ms) {
                Err(code) => {
                    // It was good before.
                    let code = if code == FORGED { REVOKED } else { code };
                    standing.notices.push(invalid(code, rights.name()));
                    standing.over = true;
                    return standing;
                }
                Ok(issued) => {
                    let Some(ends_ms) = issued.expires_ms else {
                        continue;
                    };
                    let tell_ms = ends_ms.saturating_sub(EARLY_MS);
                    let mut next_ms = tell_ms;
                    if now_ms >= tell_ms || held.told {
                        next_ms = ends_ms;
                        if !std::mem::replace(&mut held.told, true) {
                            standing.notices.push(Notice {
                                topic: EXPIRES,
                                payload: json!({"expireTime": ends_ms, "type": rights.name()})
                                    .to_string(),
                            });
                        }
                    }
                    let earlier = standing.next_ms.unwrap_or(i64::MAX);
                    standing.next_ms = Some(next_ms.min(earlier));
                }
            }
        }
        standing
    }

    /// The client shows another token in the place of one of the same type.
    ///
    /// # Errors
    /// What it is told when that is not good.
    pub(crate) fn renew(&self, payload: &[u8], now_ms: i64) -> Result<(), Notice> {
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        // One page of the cloud writes the key so.
        let token = value["token"].as_str().or_else(|| value["Token"].as_str());
        let name = value["type"].as_str().unwrap_or_default();
        let rights = Rights::named(name);
        let shown = rights.and_then(|rights| ShownToken::new(rights, token?));
        let shown = shown.ok_or_else(|| invalid(FORGED, rights.map_or("", Rights::name)))?;
        let issued = Arc::clone(&self.issued.borrow());
        let found = issued.find(&self.tenant, &self.device, &shown, now_ms);
        let found = found.map_err(|code| invalid(code, shown.rights.name()))?;
        let topics = found.topics();
        let mut held = self.held.lock();
        // What the client may do was decided when it came.
        let Some(place) = (held.iter_mut()).find(|held| held.token.rights == shown.rights) else {
            return Err(invalid(OTHER_RIGHTS, shown.rights.name()));
        };
        if place.topics != topics {
            return Err(invalid(OTHER_TOPICS, shown.rights.name()));
        }
        *place = Held::new(shown, topics);
        drop(held);
        self.renewed.notify_one();
        Ok(())
    }

    /// Says how it stands, now and whenever that changes, until it is over or `hear` wants no more.
    pub(crate) async fn follow(&self, mut hear: impl FnMut(&Standing) -> bool) {
        let mut issued = self.issued.clone();
        loop {
            issued.mark_unchanged();
            let now_ms = now_ms();
            let standing = self.look(now_ms);
            if !hear(&standing) || standing.over {
                return;
            }
            let next = (standing.next_ms).map(|next_ms| wait_for(next_ms, now_ms));
            let is_due = async {
                match next {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_due => {}
                () = self.renewed.notified() => {}
                Ok(()) = issued.changed() => {}
            }
        }
    }
}

/// How long to wait for a time, both in milliseconds since 1970.
fn wait_for(at_ms: i64, now_ms: i64) -> Duration {
    let left_ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
    Duration::from_millis(left_ms).min(LOOK_AGAIN)
}

fn invalid(code: i64, rights: &str) -> Notice {
    Notice {
        topic: INVALID,
        payload: json!({"code": code, "type": rights}).to_string(),
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
