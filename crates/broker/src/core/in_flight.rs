//! The sending half of QoS 1 and 2: what was sent under a packet identifier and is not yet acknowledged.
//!
//! The order of entries is the order of first sending; after a new connection everything is sent again in that order.
//! `[MQTT-4.4.0-1]`

use std::collections::VecDeque;
use std::sync::Arc;

use weir_mqtt::{PacketId, QoS, SubscriptionId};

use super::message::Message;
use super::queue::Waiting;
use super::shared_groups::{Group, Orphan};

/// What an entry waits for.
#[derive(Clone, Debug)]
pub enum Awaiting {
    /// PUBACK for a QoS 1 message.
    Ack(Arc<Message>),
    /// PUBREC for a QoS 2 message.
    Rec(Arc<Message>),
    /// PUBCOMP: the message has arrived, PUBREL was sent.
    Comp,
}

/// One packet identifier in use.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The identifier.
    pub id: PacketId,
    /// What is awaited.
    pub awaiting: Awaiting,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
    /// The subscription identifiers of the delivery.
    pub subscription_ids: Option<Arc<[SubscriptionId]>>,
    /// The message's place in the session's order.
    pub number: u64,
    /// The group that another member can be found in.
    group: Option<Arc<Group>>,
    /// How many identifiers were given out before this one.
    issued: u64,
}

impl Entry {
    /// The QoS of the delivery.
    pub fn qos(&self) -> QoS {
        match self.awaiting {
            Awaiting::Ack(_) => QoS::AtLeastOnce,
            Awaiting::Rec(_) | Awaiting::Comp => QoS::ExactlyOnce,
        }
    }

    /// The message, unless it has arrived before.
    pub fn into_message(self) -> Option<Arc<Message>> {
        match self.awaiting {
            Awaiting::Ack(message) | Awaiting::Rec(message) => Some(message),
            Awaiting::Comp => None,
        }
    }
}

/// The answer to an acknowledgement.
#[derive(Debug)]
pub enum Settled {
    /// The message has arrived; the entry is gone.
    Done(Entry),
    /// PUBREC: the message has arrived, PUBREL is due.
    Release(Entry),
    /// The identifier is not in use, or waits for something else.
    Unknown,
}

/// The messages in flight to one client.
#[derive(Debug)]
pub struct InFlight {
    entries: VecDeque<Entry>,
    /// The first so many entries have been sent over the present connection.
    sent: usize,
    next_id: PacketId,
    issued: u64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            next_id: PacketId::MIN,
            issued: 0,
        }
    }
}

impl InFlight {
    /// How many identifiers are in use.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no identifier is in use.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a new message may be sent under a window of `window` messages.
    pub fn has_room(&self, window: u16) -> bool {
        self.sent == self.entries.len() && self.sent < usize::from(window)
    }

    /// Whether nothing of an earlier connection is still to be sent again.
    pub fn all_sent(&self) -> bool {
        self.sent == self.entries.len()
    }

    /// Takes an identifier for a message that is being sent now.
    pub fn start(&mut self, waiting: Waiting) -> PacketId {
        let id = self.free_id();
        let Waiting {
            message,
            qos,
            retain,
            subscription_ids,
            number,
            group,
        } = waiting;
        let awaiting = if qos == QoS::ExactlyOnce {
            Awaiting::Rec(message)
        } else {
            Awaiting::Ack(message)
        };
        self.entries.push_back(Entry {
            id,
            awaiting,
            retain,
            subscription_ids,
            number,
            group,
            issued: self.issued,
        });
        self.sent += 1;
        id
    }

    /// Takes what a storage has kept, in its order: the next to be sent again. `released`: PUBREC has come for it.
    pub fn restore(&mut self, id: PacketId, waiting: Waiting, released: bool) {
        let awaiting = match waiting.qos {
            QoS::ExactlyOnce if released => Awaiting::Comp,
            QoS::ExactlyOnce => Awaiting::Rec(waiting.message),
            QoS::AtLeastOnce | QoS::AtMostOnce => Awaiting::Ack(waiting.message),
        };
        self.entries.push_back(Entry {
            id,
            awaiting,
            retain: waiting.retain,
            subscription_ids: waiting.subscription_ids,
            number: waiting.number,
            group: waiting.group,
            // Before all turns: every identifier is compared with those that were restored.
            issued: 0,
        });
        self.next_id = id.next();
    }

    /// The next identifier that is not in use. `[MQTT-2.2.1-3]`
    fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            self.issued += 1;
            // Identifiers are given out in turn, so one can only be in use if its entry is a whole turn old.
            let turn_ago = self.issued.saturating_sub(u64::from(u16::MAX));
            let oldest = self.entries.iter().map(|entry| entry.issued).next();
            if oldest.is_none_or(|oldest| oldest > turn_ago)
                || self.entries.iter().all(|entry| entry.id != id)
            {
                return id;
            }
        }
    }

    /// PUBACK. `[MQTT-4.3.2-3]`
    pub fn acknowledged(&mut self, id: PacketId) -> Settled {
        match self.find(id, |awaiting| matches!(awaiting, Awaiting::Ack(_))) {
            Some(at) => self.remove(at),
            None => Settled::Unknown,
        }
    }

    /// PUBREC; `refused` is true for a reason code of 0x80 or more, which ends the exchange.
    pub fn received(&mut self, id: PacketId, refused: bool) -> Settled {
        let Some(at) = self.find(id, |awaiting| !matches!(awaiting, Awaiting::Ack(_))) else {
            return Settled::Unknown;
        };
        if refused {
            return self.remove(at);
        }
        let entry = &mut self.entries[at];
        let before = entry.clone();
        entry.awaiting = Awaiting::Comp;
        Settled::Release(before)
    }

    /// PUBCOMP.
    pub fn completed(&mut self, id: PacketId) -> Settled {
        match self.find(id, |awaiting| matches!(awaiting, Awaiting::Comp)) {
            Some(at) => self.remove(at),
            None => Settled::Unknown,
        }
    }

    fn find(&self, id: PacketId, fits: impl Fn(&Awaiting) -> bool) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.id == id)
            .filter(|at| fits(&self.entries[*at].awaiting))
    }

    fn remove(&mut self, at: usize) -> Settled {
        if at < self.sent {
            self.sent -= 1;
        }
        self.entries
            .remove(at)
            .map_or(Settled::Unknown, Settled::Done)
    }

    /// The connection is gone: everything must be sent again over the next.
    pub fn connection_lost(&mut self) {
        self.sent = 0;
        self.entries.shrink_to_fit();
    }

    /// The next entry that must be sent again, if the window has room for it.
    pub fn next_unsent(&self, window: u16) -> Option<&Entry> {
        self.entries
            .get(self.sent)
            .filter(|_| self.sent < usize::from(window))
    }

    /// The entry of [`next_unsent`](Self::next_unsent) was sent.
    pub fn mark_sent(&mut self) {
        self.sent = (self.sent + 1).min(self.entries.len());
    }

    /// The message of [`next_unsent`](Self::next_unsent) is given up; gives the entry as it was. At QoS 2 PUBREL is due
    /// now: the client may hold the identifier, and would take the next message under it for a repetition.
    pub fn give_up_unsent(&mut self) -> Option<Entry> {
        let entry = self.entries.get_mut(self.sent)?;
        if matches!(entry.awaiting, Awaiting::Rec(_)) {
            let before = entry.clone();
            entry.awaiting = Awaiting::Comp;
            return Some(before);
        }
        self.entries.remove(self.sent)
    }

    /// What may be sent to another member of its group when the session ends: nobody knows whether it has arrived.
    /// `[MQTT-4.8.2-5]` Not QoS 2.
    pub fn orphans(&mut self) -> impl Iterator<Item = Orphan> {
        self.entries
            .drain(..)
            .filter_map(|entry| match (entry.awaiting, entry.group) {
                (Awaiting::Ack(message), Some(group)) => Some(Orphan { group, message }),
                _ => None,
            })
    }

    /// Every entry, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}
