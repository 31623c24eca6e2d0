//! The state of one client: what it subscribed to, what it is owed, what it has begun to send.
//!
//! Outlives connections when the client asked for it. Publishers deliver straight into it (see `delivery`).

use std::collections::VecDeque;

use weir_mqtt::{ProtocolVersion, SubscriptionFilter, Utf8};

use super::Effects;
use super::aliases::OutboundAliases;
use super::filters::{Filters, Leftover};
use super::in_flight::InFlight;
use super::outbox::{Hold, Outbox};
use super::persist::{Persist, SessionId};
use super::queue::{Queue, QueueLimits, Waiting};
use super::received::Received;
use super::retained::Walk;
use super::shared_groups::Orphan;
use super::subscriptions::SubscriptionOptions;
use super::will::Will;
use crate::stats::DropReason;
use crate::store::{OwedState, SessionState};

/// A session that ends only when the client says so.
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// The bounds of one session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// What waits for the client or its receive maximum.
    pub queue: QueueLimits,
    /// Bytes that may wait to be written.
    pub outbox_bytes: usize,
}

/// What a session has to know of the connection that serves it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The wire format.
    pub version: ProtocolVersion,
    /// The most messages in flight to the client.
    pub receive_maximum: u16,
    /// The largest packet that the client takes.
    pub max_packet_size: usize,
    /// The highest topic alias that the broker gives; 0: none.
    pub topic_aliases: u16,
}

/// The retained messages that are still to be sent to a new subscription.
#[derive(Clone, Debug)]
pub struct Retrieval {
    /// The way to them.
    pub walk: Walk,
    /// How the subscription wants them.
    pub options: SubscriptionOptions,
}

/// The state of one client.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    /// `None` while no connection serves the session.
    pub(super) link: Option<Link>,
    /// What the connection writes next; empty without one.
    pub(super) outbox: Outbox,
    /// Steps by which the session is owed QoS 2 messages and which the storage may not have kept yet.
    pub(super) holds: Vec<Hold>,
    /// The topic aliases of the connection, if the client takes any.
    pub(super) aliases: Option<Box<OutboundAliases>>,
    subscriptions: Filters,
    pub(super) in_flight: InFlight,
    pub(super) queue: Queue,
    /// Retained messages on their way to new subscriptions, each at most once; empty without a connection.
    pub(super) backlog: VecDeque<Retrieval>,
    received: Received,
    /// How long the session outlives its connection; 0: not at all.
    expiry_interval_s: u32,
    /// Published when the connection breaks.
    will: Option<Box<Will>>,
    pub(super) limits: SessionLimits,
    /// Given to the next message that is owed.
    pub(super) next_number: u64,
}

impl Session {
    /// A session without connection, subscriptions and messages.
    pub fn new(id: SessionId, limits: SessionLimits) -> Self {
        Self {
            id,
            link: None,
            outbox: Outbox::default(),
            holds: Vec::new(),
            aliases: None,
            subscriptions: Filters::default(),
            in_flight: InFlight::default(),
            queue: Queue::default(),
            backlog: VecDeque::new(),
            received: Received::default(),
            expiry_interval_s: 0,
            will: None,
            limits,
            next_number: 1,
        }
    }

    /// A session as a storage has kept it.
    pub fn restored(client_id: Utf8, limits: SessionLimits, mut kept: SessionState) -> Self {
        let epoch = kept.epoch;
        let mut session = Self::new(SessionId { client_id, epoch }, limits);
        session.expiry_interval_s = kept.expiry_interval_s;
        session.next_number = kept.last_number() + 1;
        let is_queued = |(_, owed): &(u64, &OwedState)| owed.packet_id.is_none();
        let mut queued = Vec::with_capacity(kept.owed().filter(is_queued).count());
        for (stored, packet_id, released) in kept.take_owed() {
            match packet_id {
                Some(id) => {
                    let waiting = stored.into_waiting();
                    session.in_flight.restore(id, waiting, released);
                }
                None => queued.push(stored),
            }
        }
        session.queue = Queue::restored(queued);
        for (filter, options) in kept.subscriptions {
            session.subscriptions.insert(filter, options);
        }
        for id in kept.received {
            session.received.first_sight(id);
        }
        session.will = kept.will;
        session
    }

    /// Whose session it is.
    pub fn client_id(&self) -> &Utf8 {
        &self.id.client_id
    }

    /// Whether a connection serves the session.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// The connection that serves the session.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Whether the session outlives its connection, so that what it is owed must be kept.
    pub fn is_durable(&self) -> bool {
        self.expiry_interval_s > 0
    }

    /// How long the session outlives its connection, in seconds.
    pub fn expiry_interval_s(&self) -> u32 {
        self.expiry_interval_s
    }

    /// CONNECT or DISCONNECT says how long the session lives on.
    pub fn set_expiry_interval(&mut self, expiry_interval_s: u32, effects: &mut Effects) {
        let was_durable = self.is_durable();
        self.expiry_interval_s = expiry_interval_s;
        let session = self.id.clone();
        if self.is_durable() {
            effects.persist.push(Persist::Session {
                session,
                expiry_interval_s,
            });
        } else if was_durable {
            effects.persist.push(Persist::SessionEnded { session });
        }
    }

    /// The Will that waits for the end of the connection, or for its delay.
    pub fn will(&self) -> Option<&Will> {
        self.will.as_deref()
    }

    /// CONNECT brings another Will, or none; DISCONNECT takes it back.
    pub fn set_will(&mut self, will: Option<Box<Will>>, effects: &mut Effects) {
        if self.is_durable() && (will.is_some() || self.will.is_some()) {
            effects.persist.push(Persist::Will {
                session: self.id.clone(),
                will: will.clone(),
            });
        }
        self.will = will;
    }

    /// The Will is published now.
    pub fn take_will(&mut self, effects: &mut Effects) -> Option<Box<Will>> {
        let will = self.will.clone();
        self.set_will(None, effects);
        will
    }

    /// A connection begins to serve the session. What is in flight is sent again by the next `refill`.
    pub fn attach(&mut self, link: Link) {
        self.outbox.clear();
        self.in_flight.connection_lost();
        // [MQTT-3.3.2-7] Aliases live no longer than their connection.
        self.aliases = OutboundAliases::new(link.topic_aliases);
        self.link = Some(link);
    }

    /// The connection is gone, with everything that was not yet written.
    pub fn detach(&mut self) {
        self.link = None;
        self.aliases = None;
        self.outbox.clear();
        self.backlog = VecDeque::new();
        self.in_flight.connection_lost();
    }

    /// When the connection ended must be kept, so that the session expires in time even after a restart.
    pub fn note_disconnected(&self, at: super::Millis, effects: &mut Effects) {
        if self.is_durable() {
            let session = self.id.clone();
            effects.persist.push(Persist::Disconnected { session, at });
        }
    }

    /// What waits to be written.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// QoS 2 packet identifiers of the client that wait for PUBREL.
    pub fn received(&mut self) -> &mut Received {
        &mut self.received
    }

    /// Remembers a QoS 2 packet identifier; false when the message was routed before. `[MQTT-4.3.3-10]`
    pub fn first_sight(&mut self, id: weir_mqtt::PacketId, effects: &mut Effects) -> bool {
        let first = self.received.first_sight(id);
        // Said again when it comes again: whoever is told that it was taken waits for a record of it.
        if self.is_durable() {
            effects.persist.push(Persist::Received {
                session: self.id.clone(),
                packet_id: id,
            });
        }
        first
    }

    /// Forgets a QoS 2 packet identifier: PUBREL, or the message was refused.
    pub fn release(&mut self, id: weir_mqtt::PacketId, effects: &mut Effects) -> bool {
        let known = self.received.release(id);
        // Said again when it comes again: the record of the first time may not be kept yet, or never.
        if self.is_durable() {
            effects.persist.push(Persist::ReceivedDone {
                session: self.id.clone(),
                packet_id: id,
            });
        }
        known
    }

    /// How many messages are in flight to the client.
    pub fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// Everything in flight is to be sent again by the next `refill`; false when there is nothing.
    pub fn send_all_again(&mut self) -> bool {
        self.in_flight.connection_lost();
        !self.in_flight.is_empty()
    }

    /// How many messages wait.
    pub fn queued_len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the messages that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// When the oldest message that waits was accepted.
    pub fn oldest_waiting(&self) -> Option<super::Millis> {
        self.queue.oldest_accepted_at()
    }

    /// How many subscriptions there are.
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// The options of a subscription, if there is one.
    pub fn options(&self, filter: &SubscriptionFilter) -> Option<&SubscriptionOptions> {
        self.subscriptions.get(filter)
    }

    /// Whether the client subscribed with this very filter.
    pub fn is_subscribed(&self, filter: &SubscriptionFilter) -> bool {
        self.subscriptions.get(filter).is_some()
    }

    /// Every subscription.
    pub fn subscriptions(
        &self,
    ) -> impl Iterator<Item = (&SubscriptionFilter, SubscriptionOptions)> {
        self.subscriptions.iter()
    }

    /// The subscription at a place, below [`subscriptions_len`](Self::subscriptions_len). One that ends gives its place
    /// to the last one, a new one comes to the end: whoever looks from the end misses none.
    pub fn subscription_at(
        &self,
        place: usize,
    ) -> Option<(&SubscriptionFilter, SubscriptionOptions)> {
        self.subscriptions.at(place)
    }

    /// Notes a subscription; the caller puts it into the index.
    pub fn subscribed(
        &mut self,
        filter: SubscriptionFilter,
        options: SubscriptionOptions,
        effects: &mut Effects,
    ) {
        if self.is_durable() {
            let (session, filter) = (self.id.clone(), filter.clone());
            effects.persist.push(Persist::Subscribed {
                session,
                filter,
                options,
            });
        }
        self.subscriptions.insert(filter, options);
    }

    /// Forgets a subscription, which the caller takes out of the index; false when there was none.
    pub fn unsubscribed(&mut self, filter: &SubscriptionFilter, effects: &mut Effects) -> bool {
        let existed = self.subscriptions.remove(filter);
        // Said again when it comes again: the record of the first time may not be kept yet, or never.
        if self.is_durable() {
            let (session, filter) = (self.id.clone(), filter.detached());
            effects
                .persist
                .push(Persist::Unsubscribed { session, filter });
        }
        existed
    }

    /// The session ends: everything in it is forgotten. Gives the filters, which the caller must take out of the index;
    /// however many there are, none of them is looked at here.
    pub fn end(&mut self, effects: &mut Effects) -> Leftover {
        if self.is_durable() {
            effects.persist.push(Persist::SessionEnded {
                session: self.id.clone(),
            });
        }
        effects.orphans.extend(self.in_flight.orphans());
        while let Some(Waiting { message, group, .. }) = self.queue.pop() {
            match group {
                Some(group) => effects.orphans.push(Orphan { group, message }),
                None => effects.dropped.push((DropReason::SessionEnded, message)),
            }
        }
        let filters = std::mem::take(&mut self.subscriptions);
        *self = Self {
            link: self.link,
            aliases: self.aliases.take(),
            ..Self::new(self.id.clone(), self.limits)
        };
        filters.into_leftover()
    }
}
