//! Where the state machines meet threads: packets in, outboxes out, timers, and acknowledgements that wait for the store.
//!
//! A connection's task owns its [`client::Client`]; what it shares with others is behind short locks, taken in this
//! order and never two of a kind: registry, retained messages, topic index, session. None is held over an await.

pub(crate) mod access;
pub(crate) mod admission;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod flush;
pub(crate) mod forgotten;
pub(crate) mod gate;
pub(crate) mod handle;
mod ingress;
pub(crate) mod limits;
pub(crate) mod router;
pub(crate) mod slices;
pub(crate) mod slow;

mod acknowledgement;
mod alarms;
pub(crate) mod auto_subscribe;
mod delayed;
mod emulation;
mod hooked;
mod identity;
pub(crate) mod large_connects;
mod lease;
mod leaving;
mod opening;
mod publish;
mod registry;
mod restore;
mod sign_in;
mod subscribe;
mod succession;
mod sys;
mod topic_cache;
mod unsubscribe;
mod wills;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use tokio::sync::watch;
use weir_mqtt::{QoS, SubscriptionFilter, Utf8};

use crate::auth::banned::Banned;
use crate::auth::enhanced::Mechanisms;
use crate::auth::{Authenticator, Authorizer, PublishVerdict, Subject};
use crate::capture::Capture;
use crate::core::Millis;
use crate::core::connect::{ConnectLimits, session_expiry_s};
use crate::core::index_changes::IndexChanges;
use crate::core::persist::SessionId;
use crate::core::queue::QueueLimits;
use crate::core::retained::{Retained, RetainedLimits};
use crate::core::session::SessionLimits;
use crate::core::subscriptions::{Index, Routes, SessionKey};
use crate::hooks::Hooks;
use crate::net::event_loop::EventLoops;
use crate::pipeline::Pipeline;
use crate::settings::BrokerSettings;
use crate::stats::BrokerStats;
use crate::store::{Storage, Store};
use alarms::Alarms;
use delayed::{Delayed, DelayedLimits};
use forgotten::Sweep;
use handle::SessionHandle;
use limits::{Entrance, RefusalLog};
use registry::Registry;
use succession::Successions;

/// Changes of the index under one lock, and filters that are handled in one step. In tests a handful of filters is many.
const CHANGES_AT_ONCE: usize = if cfg!(test) { 2 } else { 32 };

/// What a broker is put together from.
pub(crate) struct Parts {
    /// The limits.
    pub(crate) settings: BrokerSettings,
    /// The rules.
    pub(crate) pipeline: Arc<Pipeline>,
    /// Who may connect.
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// What clients may do.
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// How clients may sign in beside passwords.
    pub(crate) mechanisms: Mechanisms,
    /// Who is turned away.
    pub(crate) banned: Arc<ArcSwap<Banned>>,
    /// What takes messages for a while.
    pub(crate) capture: Option<Arc<Capture>>,
    /// Who looks on and has a say.
    pub(crate) hooks: Hooks,
    /// Where sessions are kept.
    pub(crate) storage: Option<Arc<dyn Storage>>,
}

/// What all connections of a broker share.
pub(crate) struct Shared {
    /// The limits.
    pub(crate) settings: BrokerSettings,
    /// How long a packet may be in coming.
    pub(crate) packet_timeout_ms: Option<Millis>,
    /// The limits that CONNECT is checked against.
    pub(crate) connect_limits: ConnectLimits,
    /// The limits of a session.
    pub(crate) session_limits: SessionLimits,
    /// The rules.
    pub(crate) pipeline: Arc<Pipeline>,
    /// Who may connect.
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// What clients may do.
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Who may come in at all.
    pub(crate) entrance: Entrance,
    /// Refusals that the log has not told yet.
    pub(crate) refusals: RefusalLog,
    /// The counters.
    pub(crate) stats: Arc<BrokerStats>,
    /// The retained messages.
    pub(crate) retained: RwLock<Retained>,
    /// What must outlive a crash.
    pub(crate) store: Store,
    /// What takes messages for a while.
    pub(crate) capture: Option<Arc<Capture>>,
    /// Who looks on and has a say.
    pub(crate) hooks: Arc<Hooks>,
    /// Time.
    pub(crate) clock: Clock,
    /// True when the broker is to end.
    pub(crate) ending: watch::Sender<bool>,
    /// What plain TCP connections run on, once there is a listener for them.
    loops: Mutex<Option<Arc<EventLoops>>>,
    index: RwLock<Index<Arc<SessionHandle>>>,
    /// What has changed in the index; read without its lock.
    index_changes: Arc<IndexChanges>,
    registry: Registry,
    /// Connections that want sessions which are not theirs yet.
    successions: Successions,
    /// Filters that are yet to leave the index.
    sweep: Sweep,
    alarms: Alarms,
    delayed: Delayed,
    /// How clients may sign in beside passwords.
    pub(crate) mechanisms: Mechanisms,
    /// The last key given to a session or a connection.
    last_key: AtomicU64,
    /// The number of the last session, of all brokers that had this storage.
    last_epoch: AtomicU64,
    /// What publishers remember of where topics lead.
    cached_routes: Arc<AtomicUsize>,
    /// The last assigned client identifier, as a number.
    last_client_id: AtomicU64,
}

impl Shared {
    /// Everything empty.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Self::at(Clock::start(), parts)
    }

    /// Everything empty, in the time of `clock`.
    pub(crate) fn at(clock: Clock, parts: Parts) -> Arc<Self> {
        let Parts {
            settings,
            pipeline,
            authenticator,
            authorizer,
            mechanisms,
            banned,
            capture,
            hooks,
            storage,
        } = parts;
        let delayed = DelayedLimits {
            messages: settings.max_delayed,
            bytes: settings.max_delayed_bytes,
        };
        let connect_limits = ConnectLimits {
            client_id: settings.max_client_id,
            topic_levels: settings.max_topic_levels,
            receive_maximum: settings.max_inflight.max(1),
            packet_size: settings.max_packet_size,
            topic_alias: settings.topic_alias_maximum,
            session_expiry_s: session_expiry_s(settings.session_expiry_max),
            topic_alias_out: settings.topic_alias_out,
            keep_alive_s: settings.keepalive_max_s,
            empty_client_ids: settings.empty_client_ids,
            short_v31_client_ids: settings.short_v31_client_ids,
            capabilities: settings.capabilities,
        };
        let packet_timeout_ms = settings
            .packet_timeout
            .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(Millis::MAX));
        let session_limits = SessionLimits {
            queue: QueueLimits {
                messages: settings.max_queued,
                bytes: settings.max_queued_bytes,
            },
            outbox_bytes: settings.max_outbox_bytes,
        };
        let retained = RetainedLimits {
            messages: settings.max_retained,
            bytes: settings.max_retained_bytes,
        };
        let index_changes = Arc::<IndexChanges>::default();
        Arc::new(Self {
            packet_timeout_ms,
            connect_limits,
            session_limits,
            pipeline,
            authenticator,
            authorizer,
            stats: Arc::default(),
            retained: RwLock::new(Retained::new(retained)),
            entrance: Entrance::new(&settings.limits, banned, clock.now()),
            refusals: RefusalLog::default(),
            capture,
            clock,
            store: Store::new(storage, Arc::clone(&hooks.panics)),
            hooks: Arc::new(hooks),
            ending: watch::Sender::new(false),
            loops: Mutex::default(),
            index: RwLock::new(Index::new(
                settings.shared_groups.clone(),
                Arc::clone(&index_changes),
            )),
            index_changes,
            registry: Registry::default(),
            successions: Successions::default(),
            sweep: Sweep::default(),
            alarms: Alarms::default(),
            delayed: Delayed::new(delayed),
            mechanisms,
            last_key: AtomicU64::new(0),
            last_epoch: AtomicU64::new(0),
            cached_routes: Arc::default(),
            last_client_id: AtomicU64::new(0),
            settings,
        })
    }

    /// The loops for plain TCP connections; they are started when they are first asked for.
    pub(crate) fn event_loops(&self) -> io::Result<Arc<EventLoops>> {
        let mut loops = self.loops.lock();
        if let Some(loops) = &*loops {
            return Ok(Arc::clone(loops));
        }
        let mut ending = self.ending.subscribe();
        let ending = async move {
            // It ends too when nobody is left who could say so.
            drop(ending.wait_for(|ending| *ending).await);
        };
        let started = Arc::new(EventLoops::start(self.settings.threads, ending)?);
        *loops = Some(Arc::clone(&started));
        Ok(started)
    }

    /// A key that no session and no connection has had.
    pub(crate) fn next_key(&self) -> u64 {
        self.last_key.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A session of `client_id` that no broker has had.
    pub(crate) fn new_session(&self, client_id: Utf8) -> SessionId {
        SessionId {
            client_id,
            epoch: self.last_epoch.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// A client identifier that no client of this process has had: the prefix and base-36 nanoseconds.
    pub(crate) fn assign_client_id(&self) -> Utf8 {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let next = |last: u64| Some(nanos.max(last + 1));
        let last = self
            .last_client_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or(0);
        let text = format!("WEIR-{}", base36(nanos.max(last + 1)));
        Utf8::try_from(text).expect("digits and letters are an MQTT text")
    }

    /// Which parts of the index have changed: routes found before that may be stale.
    pub(crate) fn index_changes(&self) -> &IndexChanges {
        &self.index_changes
    }

    /// Everyone who wants `topic`, with the generation of the index that says so.
    pub(crate) fn routes(&self, topic: &str) -> (u64, Routes<Arc<SessionHandle>>) {
        let index = self.index.read();
        (self.index_changes.latest(), index.routes(topic))
    }

    /// Changes the index.
    pub(crate) fn change_index<T>(
        &self,
        change: impl FnOnce(&mut Index<Arc<SessionHandle>>) -> T,
    ) -> T {
        let mut index = self.index.write();
        let result = change(&mut index);
        self.index_changes.publish();
        result
    }

    /// Changes the index once for each of `all`, some at a time: who waits for the index is let in in between.
    pub(crate) fn change_index_by<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        mut change: impl FnMut(&mut Index<Arc<SessionHandle>>, T),
    ) {
        let mut all = all.into_iter().peekable();
        while all.peek().is_some() {
            let mut index = self.index.write();
            let some = all.by_ref().take(CHANGES_AT_ONCE);
            some.for_each(|one| change(&mut index, one));
            self.index_changes.publish();
            RwLockWriteGuard::unlock_fair(index);
        }
    }

    /// Takes filters of a session out of the index.
    pub(crate) fn forget_subscriptions(&self, session: SessionKey, filters: &[SubscriptionFilter]) {
        self.change_index_by(filters, |index, filter| {
            index.unsubscribe(session, filter);
        });
        self.stats.subscriptions.sub(filters.len() as u64);
    }

    /// Whether a client may publish. Clients do not speak for the broker.
    pub(crate) fn may_publish(
        &self,
        subject: &Subject,
        topic: &str,
        qos: QoS,
        retain: bool,
    ) -> PublishVerdict {
        if topic.starts_with("$SYS/") {
            return PublishVerdict::Ignore;
        }
        self.authorizer.publish(subject, topic, qos, retain)
    }

    /// Sets the gauges of the retained messages.
    pub(crate) fn gauge_retained(&self, retained: &Retained) {
        self.stats.retained_messages.set(retained.len() as u64);
        self.stats.retained_bytes.set(retained.bytes() as u64);
    }

    /// The session of a client, connected or not.
    pub(crate) fn session(&self, client_id: &str) -> Option<Arc<SessionHandle>> {
        self.registry.get(client_id)
    }

    /// Looks at every session, connected or not, in no order. Nothing is locked meanwhile.
    pub(crate) fn each_session(&self, look: impl FnMut(&Arc<SessionHandle>)) {
        self.registry.each(look);
    }

    /// Whether there is no session, no subscription and no memory of where topics lead.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn remembers_nothing(&self) -> bool {
        let mut sessions = 0;
        self.each_session(|_| sessions += 1);
        sessions == 0
            && self.successions.is_empty()
            && self.index.read().is_empty()
            && self.cached_routes.load(Ordering::Relaxed) == 0
    }

    /// Ends every session's connection.
    pub(crate) fn close_all(&self, reason: crate::stats::CloseReason) {
        self.registry.each(|handle| handle.request_close(reason));
    }
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut text = Vec::new();
    loop {
        text.push(DIGITS[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    text.iter().rev().map(|digit| char::from(*digit)).collect()
}

/// Wall time that never goes back: the time of the start, and what has passed since.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Millis,
    /// What has passed, where that is not left to the machine.
    #[cfg(any(test, feature = "fuzzing"))]
    by_hand: Option<Arc<AtomicU64>>,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at: u64::try_from(since.as_millis()).unwrap_or(0),
            #[cfg(any(test, feature = "fuzzing"))]
            by_hand: None,
        }
    }

    /// A clock that stands still until it is moved, by adding milliseconds to the number.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn by_hand() -> (Self, Arc<AtomicU64>) {
        let passed = Arc::<AtomicU64>::default();
        let clock = Self {
            // The same in every run.
            started_at: 1_700_000_000_000,
            by_hand: Some(Arc::clone(&passed)),
            ..Self::start()
        };
        (clock, passed)
    }

    /// A number for the connection `key`, greater than any of an earlier broker on this machine: no broker admits a
    /// million connections a millisecond.
    pub(crate) fn epoch(&self, key: u64) -> u64 {
        (self.started_at << 20).saturating_add(key)
    }

    /// The time now.
    pub(crate) fn now(&self) -> Millis {
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(passed) = &self.by_hand {
            return self.started_at + passed.load(Ordering::Relaxed);
        }
        let passed = self.started.elapsed();
        self.started_at + passed.as_secs() * 1000 + u64::from(passed.subsec_millis())
    }

    /// The instant at which it will be `at`, for timers.
    pub(crate) fn instant(&self, at: Millis) -> tokio::time::Instant {
        let offset = std::time::Duration::from_millis(at.saturating_sub(self.started_at));
        tokio::time::Instant::from_std(self.started + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AllowAll;
    use crate::auth::anonymous::Anonymous;
    use crate::pipeline::world::World;

    /// A broker that keeps nothing and lets everyone do everything.
    pub(super) fn shared(settings: BrokerSettings) -> Arc<Shared> {
        Shared::new(parts(settings))
    }

    pub(super) fn parts(settings: BrokerSettings) -> Parts {
        let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
        Parts {
            settings,
            pipeline: Arc::new(pipeline),
            authenticator: Arc::new(Anonymous),
            authorizer: Arc::new(AllowAll),
            mechanisms: Mechanisms::default(),
            capture: None,
            banned: Arc::default(),
            hooks: Hooks::default(),
            storage: None,
        }
    }

    #[test]
    fn numbers_in_base_36_keep_their_order() {
        assert_eq!(base36(0), "0");
        assert_eq!(base36(35), "Z");
        assert_eq!(base36(36), "10");
        assert_eq!(base36(u64::MAX), "3W5E11264SGSF");
    }
}
