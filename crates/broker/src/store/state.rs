//! What records mean: [`State`] is what is left when all of them are applied in order to nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::HashMap;
use weir_mqtt::{PacketId, SubscriptionFilter, Utf8};

use super::{Persist, SessionId, Stored};
use crate::core::Millis;
use crate::core::bans::Bans;
use crate::core::message::{Message, Origin};
use crate::core::queue::Waiting;
use crate::core::subscriptions::SubscriptionOptions;
use crate::core::will::Will;

/// Deleted retained messages are remembered until so many younger changes have come: no record is on its way for longer.
const REMEMBERED_CHANGES: u64 = 1 << 16;

/// Everything that outlives a broker.
#[derive(Clone, Debug, Default)]
pub struct State {
    sessions: HashMap<Utf8, SessionState>,
    /// `None`: the message stands elsewhere.
    retained: BTreeMap<Utf8, (u64, Option<Arc<Message>>)>,
    /// Topics whose retained message was deleted, by the number of the change: an older message must not come back.
    cleared: BTreeSet<(u64, Utf8)>,
    /// The same by topic.
    cleared_at: HashMap<Utf8, u64>,
    /// Messages that wait for their time, by number; `None`: it was published, and its beginning is yet to come.
    delayed: BTreeMap<u64, Option<(Millis, Arc<Message>)>>,
    bans: Bans,
    last_change: u64,
    last_epoch: u64,
    shared: Shared,
    /// Messages that are owed or retained are left where they stand.
    outline: Option<Outline>,
}

/// Where messages stand: which they are of all that have come, from 1.
#[derive(Clone, Debug, Default)]
struct Outline {
    come: u32,
    /// By topic.
    retained: HashMap<Utf8, u32>,
}

/// What many messages have in common. It was one in memory before it was written, and is one again.
#[derive(Clone, Debug, Default)]
struct Shared {
    /// By client identifier.
    origins: HashMap<Utf8, Arc<Origin>>,
    /// For encoding.
    buffer: Vec<u8>,
}

impl Shared {
    fn take(&mut self, message: &mut Arc<Message>) {
        // One that others hold too has been here.
        let Some(message) = Arc::get_mut(message) else {
            return;
        };
        let client_id = &message.origin.client_id;
        match self.origins.get(client_id) {
            Some(known) if is_same(known, &message.origin) => message.origin = Arc::clone(known),
            _ => {
                let origin = Arc::clone(&message.origin);
                self.origins.insert(client_id.clone(), origin);
            }
        }
    }
}

/// Whether two messages have one publisher, of which nothing else is known.
fn is_same(a: &Origin, b: &Origin) -> bool {
    a.attributes.is_none()
        && b.attributes.is_none()
        && (&a.client_id, &a.username, a.peer) == (&b.client_id, &b.username, b.peer)
}

/// What is kept of one session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionState {
    /// Which of the client's sessions it is.
    pub epoch: u64,
    /// Seconds it outlives its connection.
    pub expiry_interval_s: u32,
    /// When its connection ended; `None` while it has one, and after a crash.
    pub disconnected_at: Option<Millis>,
    /// Its subscriptions.
    pub subscriptions: HashMap<SubscriptionFilter, SubscriptionOptions>,
    /// Its Will, until it is published or taken back.
    pub will: Option<Box<Will>>,
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
    waiting: Option<Stored>,
    /// The identifier that it was sent under.
    pub packet_id: Option<PacketId>,
    /// PUBREC has come: only PUBREL is owed.
    pub released: bool,
    /// It is settled, and its beginning is yet to come.
    settled: bool,
    /// Where the message stands, if elsewhere; else 0.
    elsewhere: u32,
}

impl OwedState {
    /// The message; `None` as long as only later records of it have come.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.as_ref().map(Stored::to_waiting)
    }

    /// Whether more than later records of it have come.
    fn has_begun(&self) -> bool {
        self.waiting.is_some() || self.elsewhere > 0
    }
}

impl SessionState {
    /// What is owed, in the session's order.
    pub fn owed(&self) -> impl Iterator<Item = (u64, &OwedState)> {
        self.owed
            .iter()
            .filter(|(_, owed)| owed.waiting.is_some())
            .map(|(number, owed)| (*number, owed))
    }

    /// Takes what is owed out of it: each message, the identifier that it was sent under, and whether PUBREC has come.
    pub(crate) fn take_owed(
        &mut self,
    ) -> impl Iterator<Item = (Stored, Option<PacketId>, bool)> + use<> {
        let owed = std::mem::take(&mut self.owed).into_values();
        owed.filter_map(|owed| Some((owed.waiting?, owed.packet_id, owed.released)))
    }

    /// The highest place in the session's order so far.
    pub fn last_number(&self) -> u64 {
        self.owed.last_key_value().map_or(0, |(number, _)| *number)
    }
}

impl State {
    /// One that leaves what is owed and what is retained where it stands, and only notes where that is: so
    /// [`records`](Self::records) gives all but these messages.
    pub(super) fn outline() -> Self {
        Self {
            outline: Some(Outline::default()),
            ..Self::default()
        }
    }

    /// The same records come once more, from the beginning. Gives how many messages [`takes_again`](Self::takes_again) will
    /// take of them.
    pub(super) fn begin_again(&mut self) -> usize {
        if let Some(outline) = &mut self.outline {
            outline.come = 0;
        }
        let sessions = self.sessions.values();
        let owed = sessions.flat_map(|session| session.owed.values());
        let retained = self.retained.values();
        owed.filter(|owed| owed.elsewhere > 0).count()
            + retained.filter(|(_, message)| message.is_none()).count()
    }

    /// Whether this record, which comes once more, has a message that was left where it stands.
    pub(super) fn takes_again(&mut self, record: &Persist) -> bool {
        match record {
            Persist::Owed { session, waiting } => {
                let place = self.next_place();
                let SessionId { client_id, epoch } = session;
                let known = self.sessions.get(client_id);
                let known = known.filter(|known| known.epoch == *epoch);
                let owed = known.and_then(|known| known.owed.get(&waiting.number));
                // A number may have been another message's before.
                owed.is_some_and(|owed| place == Some(owed.elsewhere))
            }
            Persist::Retained { message, .. } => {
                let place = self.next_place();
                let is_there = self.retained.contains_key(&message.topic);
                let known = self.outline.as_ref();
                let known = known.and_then(|outline| outline.retained.get(&message.topic));
                is_there && place.as_ref() == known
            }
            _ => false,
        }
    }

    /// Where the message of the record that has just come stands; `None` when it is not left there.
    fn next_place(&mut self) -> Option<u32> {
        let outline = self.outline.as_mut()?;
        // There is no room for so many; if there were, they would be missed when they come again.
        outline.come = outline.come.saturating_add(1);
        Some(outline.come)
    }

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
        let messages = self.retained.values();
        messages.filter_map(|(_, message)| message.as_ref())
    }

    /// The number of the last change of retained messages.
    pub fn last_change(&self) -> u64 {
        self.last_change
    }

    /// The number of the last session.
    pub fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// Messages that wait for their time: number, time, message.
    pub fn delayed(&self) -> impl Iterator<Item = (u64, Millis, &Arc<Message>)> {
        self.delayed.iter().filter_map(|(number, held)| {
            let (at, message) = held.as_ref()?;
            Some((*number, *at, message))
        })
    }

    /// Who was turned away by an operator. Those whose time is over may still be there.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.retained.is_empty()
            && self.delayed.is_empty()
            && self.bans.is_empty()
    }

    /// Applies one record.
    pub fn apply(&mut self, record: Persist) {
        match record {
            Persist::Session {
                session,
                expiry_interval_s,
            } => self.begin(session, expiry_interval_s),
            Persist::Row { .. } => {}
            Persist::SessionEnded { session } => self.end(&session),
            Persist::Retained {
                mut message,
                change,
            } => {
                let place = self.next_place();
                if place.is_none() {
                    self.shared.take(&mut message);
                }
                self.retain(message, change, place);
            }
            Persist::RetainedCleared { topic, change } => self.clear_retained(topic, change),
            Persist::Disconnected { session, at } => self.with(&session, |session| {
                session.disconnected_at = Some(at);
            }),
            Persist::Subscribed {
                session,
                filter,
                options,
            } => self.with(&session, |session| {
                session.subscriptions.insert(filter, options);
            }),
            Persist::Unsubscribed { session, filter } => self.with(&session, |session| {
                session.subscriptions.remove(&filter);
            }),
            Persist::Received { session, packet_id } => self.with(&session, |session| {
                session.received.insert(packet_id);
            }),
            Persist::ReceivedDone { session, packet_id } => self.with(&session, |session| {
                session.received.remove(&packet_id);
            }),
            Persist::Will { session, will } => self.with(&session, |session| session.will = will),
            Persist::Owed {
                session,
                mut waiting,
            } => {
                let number = waiting.number;
                if let Some(place) = self.next_place() {
                    return self.with_owed(&session, number, |owed| owed.elsewhere = place);
                }
                self.shared.take(&mut waiting.message);
                let stored = Stored::new(waiting, &mut self.shared.buffer);
                self.with_owed(&session, number, |owed| owed.waiting = Some(stored));
            }
            Persist::InFlight {
                session,
                number,
                packet_id,
            } => self.with_owed(&session, number, |owed| owed.packet_id = Some(packet_id)),
            Persist::Released { session, number } => {
                self.with_owed(&session, number, |owed| owed.released = true);
            }
            Persist::Settled { session, number } => {
                self.with_owed(&session, number, |owed| owed.settled = true);
            }
            Persist::Delayed {
                number,
                at,
                message,
            } => match self.delayed.entry(number) {
                Entry::Occupied(done) if done.get().is_none() => drop(done.remove()),
                other => drop(other.insert_entry(Some((at, message)))),
            },
            Persist::DelayedDone { number } => match self.delayed.entry(number) {
                Entry::Occupied(held) if held.get().is_some() => drop(held.remove()),
                other => drop(other.insert_entry(None)),
            },
            Persist::Began { change, epoch } => self.forget_parts(change, epoch),
            // Their order is that of the changes: they are handed over one at a time.
            Persist::Banned { who, ban } => self.bans.insert(who, ban),
            Persist::Unbanned { who } => {
                self.bans.remove(&who);
            }
        }
    }

    /// A session begins or goes on. One that another has followed stays forgotten.
    fn begin(&mut self, id: SessionId, expiry_interval_s: u32) {
        let SessionId { client_id, epoch } = id;
        self.last_epoch = self.last_epoch.max(epoch);
        let session = self.sessions.entry(client_id).or_default();
        if session.epoch > epoch {
            return;
        }
        if session.epoch < epoch {
            *session = SessionState {
                epoch,
                ..SessionState::default()
            };
        }
        session.expiry_interval_s = expiry_interval_s;
        session.disconnected_at = None;
    }

    /// The end of a session may come when another one has begun.
    fn end(&mut self, id: &SessionId) {
        let known = self.sessions.get(&id.client_id);
        if known.is_some_and(|session| session.epoch <= id.epoch) {
            self.sessions.remove(&id.client_id);
        }
    }

    /// What belongs to a session that has ended meanwhile is of no use any more.
    fn with(&mut self, id: &SessionId, change: impl FnOnce(&mut SessionState)) {
        let session = self.sessions.get_mut(&id.client_id);
        if let Some(session) = session.filter(|session| session.epoch == id.epoch) {
            change(session);
        }
    }

    /// The records of one message may come in any order; it is gone when it has both begun and been settled.
    fn with_owed(&mut self, id: &SessionId, number: u64, change: impl FnOnce(&mut OwedState)) {
        self.with(id, |session| {
            let owed = session.owed.entry(number).or_default();
            change(owed);
            if owed.settled && owed.has_begun() {
                session.owed.remove(&number);
            }
        });
    }

    /// What has come in part stays in part: nothing of an earlier broker is on its way any more.
    fn forget_parts(&mut self, change: u64, epoch: u64) {
        self.last_change = self.last_change.max(change);
        self.last_epoch = self.last_epoch.max(epoch);
        self.cleared = BTreeSet::new();
        self.cleared_at = HashMap::default();
        self.delayed.retain(|_, held| held.is_some());
        for session in self.sessions.values_mut() {
            session.owed.retain(|_, owed| owed.has_begun());
        }
    }

    fn retain(&mut self, message: Arc<Message>, change: u64, place: Option<u32>) {
        self.last_change = self.last_change.max(change);
        let known = self.retained.get(&message.topic).map(|(known, _)| *known);
        let cleared = self.cleared_at.get(&message.topic).copied();
        if known.max(cleared).is_none_or(|known| known <= change) {
            let topic = message.topic.clone();
            if let (Some(place), Some(outline)) = (place, &mut self.outline) {
                outline.retained.insert(topic.clone(), place);
            }
            let message = place.is_none().then_some(message);
            self.retained.insert(topic, (change, message));
        }
    }

    fn clear_retained(&mut self, topic: Utf8, change: u64) {
        self.last_change = self.last_change.max(change);
        if self
            .retained
            .get(&topic)
            .is_some_and(|(known, _)| *known <= change)
        {
            self.retained.remove(&topic);
            if let Some(outline) = &mut self.outline {
                outline.retained.remove(&topic);
            }
        }
        let before = self.cleared_at.get(&topic).copied();
        if before.is_none_or(|before| before < change) {
            if let Some(before) = before {
                self.cleared.remove(&(before, topic.clone()));
            }
            self.cleared_at.insert(topic.clone(), change);
            self.cleared.insert((change, topic));
        }
        let forgotten = change.saturating_sub(REMEMBERED_CHANGES);
        while let Some((first, _)) = self.cleared.first()
            && *first < forgotten
            && let Some((_, topic)) = self.cleared.pop_first()
        {
            self.cleared_at.remove(&topic);
        }
    }

    /// The records that make up this state, also of what has come in part only: the rest of it may still come.
    pub fn records(&self, mut each: impl FnMut(Persist)) {
        self.records_of_all(&mut each);
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_unstable_by_key(|(client_id, _)| *client_id);
        for (client_id, session) in sessions {
            session.records(client_id, &mut each);
        }
        self.records_without_session(&mut each);
    }

    /// Takes every session out of it, in the order of [`records`](Self::records): memory is given back in the order in
    /// which it was taken, and so can be used for what is made of the sessions.
    pub fn take_sessions(&mut self) -> impl Iterator<Item = (Utf8, SessionState)> + use<> {
        self.shared = Shared::default();
        let sessions = std::mem::take(&mut self.sessions);
        let mut sessions: Vec<_> = sessions.into_iter().collect();
        sessions.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        sessions.into_iter()
    }

    fn records_of_all(&self, each: &mut impl FnMut(Persist)) {
        let (change, epoch) = (self.last_change, self.last_epoch);
        if (change, epoch) != (0, 0) {
            // Before everything: so it forgets nothing.
            each(Persist::Began { change, epoch });
        }
    }

    fn records_without_session(&self, each: &mut impl FnMut(Persist)) {
        for (change, topic) in &self.cleared {
            each(Persist::RetainedCleared {
                topic: topic.clone(),
                change: *change,
            });
        }
        for (number, held) in &self.delayed {
            let number = *number;
            each(match held {
                Some((at, message)) => Persist::Delayed {
                    number,
                    at: *at,
                    message: Arc::clone(message),
                },
                None => Persist::DelayedDone { number },
            });
        }
        for (who, ban) in self.bans.iter() {
            each(Persist::Banned {
                who: who.clone(),
                ban: ban.clone(),
            });
        }
        let retained = self.retained.values();
        for (change, message) in retained.filter_map(|(n, message)| Some((n, message.as_ref()?))) {
            each(Persist::Retained {
                message: Arc::clone(message),
                change: *change,
            });
        }
    }
}

impl SessionState {
    fn records(&self, client_id: &Utf8, each: &mut impl FnMut(Persist)) {
        let session = || SessionId {
            client_id: client_id.clone(),
            epoch: self.epoch,
        };
        each(Persist::Session {
            session: session(),
            expiry_interval_s: self.expiry_interval_s,
        });
        if let Some(at) = self.disconnected_at {
            each(Persist::Disconnected {
                session: session(),
                at,
            });
        }
        if let Some(will) = &self.will {
            each(Persist::Will {
                session: session(),
                will: Some(will.clone()),
            });
        }
        for (filter, options) in &self.subscriptions {
            each(Persist::Subscribed {
                session: session(),
                filter: filter.clone(),
                options: *options,
            });
        }
        for packet_id in &self.received {
            each(Persist::Received {
                session: session(),
                packet_id: *packet_id,
            });
        }
        for (number, owed) in &self.owed {
            let number = *number;
            if owed.settled {
                each(Persist::Settled {
                    session: session(),
                    number,
                });
            }
            if let Some(waiting) = owed.waiting() {
                each(Persist::Owed {
                    session: session(),
                    waiting,
                });
            }
            if let Some(packet_id) = owed.packet_id {
                each(Persist::InFlight {
                    session: session(),
                    number,
                    packet_id,
                });
            }
            if owed.released {
                each(Persist::Released {
                    session: session(),
                    number,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64) -> SessionId {
        SessionId {
            client_id: "a".into(),
            epoch,
        }
    }

    fn begins(epoch: u64) -> Persist {
        Persist::Session {
            session: id(epoch),
            expiry_interval_s: 60,
        }
    }

    fn owed(epoch: u64, number: u64) -> Persist {
        let waiting = Waiting {
            message: Arc::new(Message::text("t", "x").unwrap()),
            qos: weir_mqtt::QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            number,
            group: None,
        };
        Persist::Owed {
            session: id(epoch),
            waiting,
        }
    }

    fn after(records: impl IntoIterator<Item = Persist>) -> State {
        let mut state = State::default();
        records.into_iter().for_each(|record| state.apply(record));
        state
    }

    #[test]
    fn what_comes_late_of_an_ended_session_means_nothing_to_the_next() {
        let settled = Persist::Settled {
            session: id(1),
            number: 7,
        };
        let state = after([
            begins(1),
            begins(2),
            owed(2, 7),
            owed(1, 8),
            settled,
            Persist::Disconnected {
                session: id(1),
                at: 5,
            },
            Persist::SessionEnded { session: id(1) },
            begins(1),
        ]);
        let session = state.session("a").unwrap();
        let numbers: Vec<_> = session.owed().map(|(number, _)| number).collect();
        assert_eq!((session.epoch, numbers), (2, vec![7]));
        assert_eq!(session.disconnected_at, None);
    }

    #[test]
    fn nothing_is_left_of_a_message_whatever_the_order_of_its_records() {
        let in_flight = || Persist::InFlight {
            session: id(1),
            number: 1,
            packet_id: PacketId::MIN,
        };
        let settled = || Persist::Settled {
            session: id(1),
            number: 1,
        };
        // A publisher says that it is in flight and owed, the receiver that it is settled.
        for records in [
            [in_flight(), owed(1, 1), settled()],
            [in_flight(), settled(), owed(1, 1)],
            [settled(), in_flight(), owed(1, 1)],
        ] {
            let mut state = after([begins(1)]);
            records.into_iter().for_each(|record| state.apply(record));
            assert!(state.sessions["a"].owed.is_empty());
        }
    }

    #[test]
    fn what_came_in_part_is_forgotten_when_the_next_broker_begins() {
        let settled = Persist::Settled {
            session: id(1),
            number: 3,
        };
        let cleared = Persist::RetainedCleared {
            topic: "t".into(),
            change: 9,
        };
        let done = Persist::DelayedDone { number: 4 };
        let mut state = after([begins(1), owed(1, 1), settled, cleared, done]);
        let (change, epoch) = (state.last_change(), state.last_epoch());
        state.apply(Persist::Began { change, epoch });
        let mut again = State::default();
        let mut records = 0;
        state.records(|record| {
            records += 1;
            again.apply(record);
        });
        assert_eq!(records, 3, "that it began, the session, and what is owed");
        assert_eq!((again.last_change(), again.last_epoch()), (9, 1));
    }

    #[test]
    fn a_message_that_was_set_before_it_was_deleted_does_not_come_back() {
        let message = Arc::new(Message::text("t", "old").unwrap());
        let cleared = |change| Persist::RetainedCleared {
            topic: "t".into(),
            change,
        };
        let state = after([
            cleared(4),
            cleared(2),
            Persist::Retained { message, change: 3 },
        ]);
        assert_eq!(state.retained().count(), 0);
    }

    #[test]
    fn an_outline_forgets_where_a_message_stood_that_was_deleted() {
        let mut state = State::outline();
        for change in (1..=100).step_by(2) {
            let topic = format!("t/{change}");
            let message = Arc::new(Message::text(&topic, "on").unwrap());
            let topic = message.topic.clone();
            state.apply(Persist::Retained { message, change });
            state.apply(Persist::RetainedCleared {
                topic,
                change: change + 1,
            });
        }
        let outline = state.outline.unwrap();
        assert_eq!((outline.come, outline.retained.len()), (50, 0));
    }
}
