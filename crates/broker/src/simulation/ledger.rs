//! Every message of a run: when the broker can have taken it, and what became of it.

use weir_mqtt::QoS;

use crate::core::Millis;

/// Counts what happens, so that it can be told what was before what.
pub(super) type Tick = u64;

/// The beginning of the shared filter.
pub(super) const SHARE: &str = "$share/g/";

/// Where messages go, and with it what is asked of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// To plain subscriptions: all promises hold.
    Live,
    /// To a shared group.
    Shared,
    /// With the RETAIN flag, on a topic of its publisher's own.
    Kept,
    /// Through `$delayed`.
    Delayed,
    /// A Will.
    Will,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Who published it.
    pub(super) publisher: usize,
    /// The topic under which it arrives.
    pub(super) topic: String,
    pub(super) kind: Kind,
    pub(super) qos: QoS,
    /// An empty payload, which clears what is retained.
    pub(super) clears: bool,
    /// Whether it is too large for a client that takes small packets only.
    pub(super) large: bool,
    pub(super) expiry_s: Option<u32>,
    /// The broker can have taken it from here on.
    pub(super) from: Option<Tick>,
    /// The broker has taken it by now.
    pub(super) until: Option<Tick>,
    /// The latest time at which it can have expired.
    pub(super) expires_at: Option<Millis>,
    /// Of a delayed message: how long, and the earliest and the latest time at which it is due.
    pub(super) delay_s: u32,
    pub(super) due: (Option<Millis>, Option<Millis>),
    /// It went out more than once, so the broker may have taken it more than once.
    pub(super) repeated: bool,
    /// Nobody may get it from here on.
    pub(super) forbidden: bool,
    /// Nobody knows whether the broker has it.
    pub(super) lost: bool,
}

impl Sent {
    pub(super) fn new(publisher: usize, topic: String, kind: Kind, qos: QoS) -> Self {
        Self {
            publisher,
            topic,
            kind,
            qos,
            clears: false,
            large: false,
            expiry_s: None,
            from: None,
            until: None,
            expires_at: None,
            delay_s: 0,
            due: (None, None),
            repeated: false,
            forbidden: false,
            lost: false,
        }
    }

    /// Whether the broker has it for certain, and when that was.
    pub(super) fn taken(&self) -> Option<(Tick, Tick)> {
        if self.lost || self.forbidden {
            return None;
        }
        Some((self.from?, self.until?))
    }
}

/// One subscription of one session, as its client knows it.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filter: &'static str,
    /// The session that it belongs to.
    pub(super) incarnation: u32,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) id: Option<u32>,
    /// It can exist from here on, and does from there on.
    pub(super) possible_from: Tick,
    pub(super) certain_from: Option<Tick>,
    /// It is certain up to here, and possible up to there.
    pub(super) certain_until: Option<Tick>,
    pub(super) possible_until: Option<Tick>,
}

impl Subscription {
    pub(super) fn matches(&self, topic: &str) -> bool {
        let shared = self.filter.strip_prefix(SHARE);
        weir_mqtt::fuzz::matches_by_definition(shared.unwrap_or(self.filter), topic)
    }

    /// Whether it can have existed at some time between.
    pub(super) fn possible(&self, from: Tick, until: Tick) -> bool {
        self.possible_from <= until && self.possible_until.is_none_or(|end| end >= from)
    }

    /// Whether it existed all the time between.
    pub(super) fn certain(&self, from: Tick, until: Tick) -> bool {
        self.certain_from.is_some_and(|begin| begin < from)
            && self.certain_until.is_none_or(|end| end > until)
    }
}
