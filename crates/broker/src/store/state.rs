//! What records mean: [`State`] is what is left when all of them are applied in order to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::HashMap;
use weir_mqtt::{PacketId, SubscriptionFilter, Utf8};

use super::Persist;
use crate::core::Millis;
use crate::core::message::Message;
use crate::core::queue::Waiting;
use crate::core::subscriptions::SubscriptionOptions;

/// Deleted retained messages are remembered until so many younger changes have come: no record is on its way for longer.
const REMEMBERED_CHANGES: u64 = 1 << 16;

/// Everything that outlives a broker.
#[derive(Clone, Debug, Default)]
pub struct State {
    sessions: HashMap<Utf8, SessionState>,
    retained: BTreeMap<Utf8, (u64, Arc<Message>)>,
    /// Topics whose retained message was deleted, by the number of the change: an older message must not come back.
    cleared: BTreeSet<(u64, Utf8)>,
}

/// What is kept of one session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionState {
    /// Seconds it outlives its connection.
    pub expiry_interval_s: u32,
    /// When its connection ended; `None` while it has one, and after a crash.
    pub disconnected_at: Option<Millis>,
    /// Its subscriptions.
    pub subscriptions: HashMap<SubscriptionFilter, SubscriptionOptions>,
    /// QoS 2 identifiers of the client that wait for their PUBREL.
    pub received: BTreeSet<PacketId>,
    /// Messages by their place in the session's order.
    owed: BTreeMap<u64, OwedState>,
}

/// A message that is owed to a session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OwedState {
    /// The message; `None` as long as only later records of it have come.
    pub waiting: Option<Waiting>,
    /// The identifier that it was sent under.
    pub packet_id: Option<PacketId>,
    /// PUBREC has come: only PUBREL is owed.
    pub released: bool,
    /// It is settled, and its beginning is yet to come.
    settled: bool,
}

impl SessionState {
    /// What is owed, in the session's order.
    pub fn owed(&self) -> impl Iterator<Item = (u64, &OwedState)> {
        self.owed
            .iter()
            .filter(|(_, owed)| owed.waiting.is_some())
            .map(|(number, owed)| (*number, owed))
    }

    /// The highest place in the session's order so far.
    pub fn last_number(&self) -> u64 {
        self.owed.last_key_value().map_or(0, |(number, _)| *number)
    }
}

impl State {
    /// Every session that is kept.
    pub fn sessions(&self) -> impl Iterator<Item = (&Utf8, &SessionState)> {
        self.sessions.iter()
    }

    /// The session of one client.
    pub fn session(&self, client_id: &str) -> Option<&SessionState> {
        self.sessions
            .iter()
            .find(|(known, _)| known.as_str() == client_id)
            .map(|(_, session)| session)
    }

    /// Every retained message, in the order of topics.
    pub fn retained(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.retained.values().map(|(_, message)| message)
    }

    /// The number of the last change of retained messages.
    pub fn last_change(&self) -> u64 {
        let set = self.retained.values().map(|(change, _)| *change).max();
        let cleared = self.cleared.last().map(|(change, _)| *change);
        set.max(cleared).unwrap_or(0)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.retained.is_empty()
    }

    /// Applies one record.
    pub fn apply(&mut self, record: Persist) {
        match record {
            Persist::Session {
                client_id,
                expiry_interval_s,
            } => {
                let session = self.sessions.entry(client_id).or_default();
                session.expiry_interval_s = expiry_interval_s;
                session.disconnected_at = None;
            }
            Persist::Row { .. } => {}
            Persist::SessionEnded { client_id } => drop(self.sessions.remove(&client_id)),
            Persist::Retained { message, change } => self.retain(message, change),
            Persist::RetainedCleared { topic, change } => self.clear_retained(topic, change),
            Persist::Disconnected { client_id, at } => self.with(&client_id, |session| {
                session.disconnected_at = Some(at);
            }),
            Persist::Subscribed {
                client_id,
                filter,
                options,
            } => self.with(&client_id, |session| {
                session.subscriptions.insert(filter, options);
            }),
            Persist::Unsubscribed { client_id, filter } => self.with(&client_id, |session| {
                session.subscriptions.remove(&filter);
            }),
            Persist::Received {
                client_id,
                packet_id,
            } => self.with(&client_id, |session| {
                session.received.insert(packet_id);
            }),
            Persist::ReceivedDone {
                client_id,
                packet_id,
            } => self.with(&client_id, |session| {
                session.received.remove(&packet_id);
            }),
            Persist::Owed { client_id, waiting } => {
                let number = waiting.number;
                self.with_owed(&client_id, number, |owed| owed.waiting = Some(waiting));
            }
            Persist::InFlight {
                client_id,
                number,
                packet_id,
            } => self.with_owed(&client_id, number, |owed| owed.packet_id = Some(packet_id)),
            Persist::Released { client_id, number } => {
                self.with_owed(&client_id, number, |owed| owed.released = true);
            }
            Persist::Settled { client_id, number } => {
                self.with_owed(&client_id, number, |owed| owed.settled = true);
            }
        }
    }

    /// What belongs to a session that has ended meanwhile is of no use any more.
    fn with(&mut self, client_id: &Utf8, change: impl FnOnce(&mut SessionState)) {
        if let Some(session) = self.sessions.get_mut(client_id) {
            change(session);
        }
    }

    /// The records of one message may come in any order; it is gone when it has both begun and been settled.
    fn with_owed(&mut self, client_id: &Utf8, number: u64, change: impl FnOnce(&mut OwedState)) {
        self.with(client_id, |session| {
            let owed = session.owed.entry(number).or_default();
            change(owed);
            if owed.settled && owed.waiting.is_some() {
                session.owed.remove(&number);
            }
        });
    }

    fn retain(&mut self, message: Arc<Message>, change: u64) {
        let known = self.retained.get(&message.topic).map(|(known, _)| *known);
        let cleared_later = self
            .cleared
            .range((change, Utf8::default())..)
            .any(|(_, topic)| *topic == message.topic);
        if !cleared_later && known.is_none_or(|known| known <= change) {
            self.retained
                .insert(message.topic.clone(), (change, message));
        }
    }

    fn clear_retained(&mut self, topic: Utf8, change: u64) {
        if self
            .retained
            .get(&topic)
            .is_some_and(|(known, _)| *known <= change)
        {
            self.retained.remove(&topic);
        }
        self.cleared.insert((change, topic));
        let forgotten = change.saturating_sub(REMEMBERED_CHANGES);
        while self
            .cleared
            .first()
            .is_some_and(|(first, _)| *first < forgotten)
        {
            self.cleared.pop_first();
        }
    }

    /// The records that make up this state, also of what has come in part only: the rest of it may still come.
    pub fn records(&self, mut each: impl FnMut(Persist)) {
        for (client_id, session) in &self.sessions {
            session.records(client_id, &mut each);
        }
        for (change, topic) in &self.cleared {
            each(Persist::RetainedCleared {
                topic: topic.clone(),
                change: *change,
            });
        }
        for (change, message) in self.retained.values() {
            each(Persist::Retained {
                message: Arc::clone(message),
                change: *change,
            });
        }
    }
}

impl SessionState {
    fn records(&self, client_id: &Utf8, each: &mut impl FnMut(Persist)) {
        let client_id = || client_id.clone();
        each(Persist::Session {
            client_id: client_id(),
            expiry_interval_s: self.expiry_interval_s,
        });
        if let Some(at) = self.disconnected_at {
            each(Persist::Disconnected {
                client_id: client_id(),
                at,
            });
        }
        for (filter, options) in &self.subscriptions {
            each(Persist::Subscribed {
                client_id: client_id(),
                filter: filter.clone(),
                options: *options,
            });
        }
        for packet_id in &self.received {
            each(Persist::Received {
                client_id: client_id(),
                packet_id: *packet_id,
            });
        }
        for (number, owed) in &self.owed {
            let number = *number;
            if owed.settled {
                each(Persist::Settled {
                    client_id: client_id(),
                    number,
                });
            }
            if let Some(waiting) = &owed.waiting {
                each(Persist::Owed {
                    client_id: client_id(),
                    waiting: waiting.clone(),
                });
            }
            if let Some(packet_id) = owed.packet_id {
                each(Persist::InFlight {
                    client_id: client_id(),
                    number,
                    packet_id,
                });
            }
            if owed.released {
                each(Persist::Released {
                    client_id: client_id(),
                    number,
                });
            }
        }
    }
}
