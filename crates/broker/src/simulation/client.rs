//! One client of the simulation: a client as the standard wants it, over a line that may be slow, late and lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_mqtt::{
    Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode,
    Utf8, codec,
};

use super::ledger::{Subscription, Tick};
use crate::core::Millis;
use crate::net::in_memory::Line;

/// A message as it reached the application.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) message: usize,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) ids: Vec<u32>,
    /// The session in which it came.
    pub(super) incarnation: u32,
}

/// What the client waits for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Subscribe(usize),
    /// The subscriptions that end with it.
    Unsubscribe(Vec<usize>),
}

/// The parts that end with a connection.
#[derive(Default)]
pub(super) struct Link {
    pub(super) line: Option<Line>,
    /// Bytes that the client has still to write.
    pub(super) out: VecDeque<u8>,
    /// Acknowledgements that it has still to write.
    pub(super) acknowledgements: VecDeque<Packet>,
    pub(super) unread: Vec<u8>,
    /// Topics of the broker's aliases.
    pub(super) aliases_in: BTreeMap<u16, Utf8>,
    /// Topics of the client's own aliases.
    pub(super) aliases_out: BTreeMap<u16, String>,
    pub(super) alias_maximum_out: u16,
    pub(super) alias_maximum_in: u16,
    /// What the client takes at once, and what is in flight to it.
    pub(super) receive_maximum: u16,
    pub(super) in_flight: BTreeMap<PacketId, QoS>,
    /// What the broker takes at once.
    pub(super) send_maximum: u16,
    pub(super) max_packet: usize,
    /// Requests that the broker has not answered.
    pub(super) asked: BTreeMap<PacketId, Asked>,
    /// Pings that it has not answered.
    pub(super) pings: u32,
}

/// A publish that the broker has not acknowledged to the end.
#[derive(Clone, Debug)]
pub(super) struct Unacknowledged {
    pub(super) id: PacketId,
    pub(super) message: usize,
    pub(super) publish: Publish,
    /// Only PUBREL is due.
    pub(super) released: bool,
}

/// A client with what it remembers.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) version: ProtocolVersion,
    pub(super) link: Link,
    pub(super) unacknowledged: VecDeque<Unacknowledged>,
    pub(super) next_id: PacketId,
    /// QoS 2 messages that have arrived and wait for PUBREL.
    pub(super) held: BTreeMap<PacketId, usize>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) arrivals: Vec<Arrival>,
    /// How many sessions there have been.
    pub(super) incarnation: u32,
    /// Seconds that the session outlives its connection; `None` when there is no session.
    pub(super) session: Option<u32>,
    /// When the last connection began and ended.
    pub(super) begun_at: Millis,
    pub(super) ended_at: Option<Millis>,
    /// The Will of the present or the last connection, if it can still be published, and when it is due.
    pub(super) will: Option<(usize, u32)>,
    pub(super) will_due: Option<Millis>,
    /// It has taken small packets only at some time.
    pub(super) was_limited: bool,
    /// It has sent DISCONNECT since it last connected.
    pub(super) has_said_goodbye: bool,
}

impl Client {
    pub(super) fn new(name: &'static str, version: ProtocolVersion) -> Self {
        Self {
            name,
            version,
            link: Link::default(),
            unacknowledged: VecDeque::new(),
            next_id: PacketId::MIN,
            held: BTreeMap::new(),
            subscriptions: Vec::new(),
            arrivals: Vec::new(),
            incarnation: 0,
            session: None,
            begun_at: 0,
            ended_at: None,
            will: None,
            will_due: None,
            was_limited: false,
            has_said_goodbye: false,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.line.is_some()
    }

    /// Whether the broker has a session of this client at `now`.
    pub(super) fn has_session(&self, now: Millis) -> bool {
        let Some(expiry_s) = self.session else {
            return false;
        };
        match self.ended_at {
            None => true,
            Some(at) => now < at + u64::from(expiry_s) * 1000,
        }
    }

    /// Puts a packet behind what is still to be written.
    pub(super) fn say(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes).expect("a client's packet");
        self.link.out.extend(bytes);
    }

    /// Writes some of it.
    pub(super) fn write(&mut self, most: usize) -> bool {
        let Some(line) = self.link.line.clone() else {
            return false;
        };
        let most = most.min(self.link.out.len());
        let bytes: Vec<u8> = self.link.out.drain(..most).collect();
        line.send(&bytes);
        most > 0
    }

    /// Lets some acknowledgements go.
    pub(super) fn acknowledge(&mut self, most: usize) -> bool {
        for at in 0..most {
            let Some(packet) = self.link.acknowledgements.pop_front() else {
                return at > 0;
            };
            match &packet {
                Packet::PubAck(PubAck { packet_id, .. })
                | Packet::PubComp(PubComp { packet_id, .. }) => {
                    self.link.in_flight.remove(packet_id);
                }
                _ => {}
            }
            self.say(&packet);
        }
        most > 0
    }

    /// An identifier that nothing of this client uses.
    pub(super) fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            let used = self.unacknowledged.iter().any(|one| one.id == id);
            if !used && !self.link.asked.contains_key(&id) {
                return id;
            }
        }
    }

    /// Publishes that the broker has not acknowledged with PUBACK or PUBCOMP.
    pub(super) fn has_window(&self) -> bool {
        self.unacknowledged.len() < usize::from(self.link.send_maximum.min(10))
    }

    /// The next packet that has come.
    pub(super) fn next_packet(&mut self) -> Option<Packet> {
        let length = codec::frame_length(&self.link.unread, codec::MAX_PACKET_SIZE);
        let len = length.expect("the broker sends frames")?;
        assert!(len <= self.link.max_packet, "[MQTT-3.1.2-24]");
        let frame: Vec<u8> = self.link.unread.drain(..len).collect();
        Some(codec::decode(frame.into(), self.version).expect("the broker sends packets"))
    }

    /// The topic of a PUBLISH, which may be an alias.
    pub(super) fn topic_of(&mut self, publish: &Publish) -> String {
        let alias = publish
            .properties
            .as_deref()
            .and_then(|properties| properties.topic_alias);
        let Some(alias) = alias else {
            return publish.topic.as_str().to_owned();
        };
        assert!(alias.get() <= self.link.alias_maximum_in, "[MQTT-3.1.2-26]");
        if !publish.topic.is_empty() {
            self.link
                .aliases_in
                .insert(alias.get(), publish.topic.clone());
        }
        let topic = self.link.aliases_in.get(&alias.get());
        topic
            .expect("the broker knows its aliases")
            .as_str()
            .to_owned()
    }

    /// Takes a PUBLISH as the standard says; gives whether the application gets it.
    pub(super) fn take(&mut self, publish: &Publish, message: usize) -> bool {
        let Some(id) = publish.packet_id else {
            return true;
        };
        let before = self.link.in_flight.insert(id, publish.qos);
        assert_eq!(before, None, "[MQTT-2.2.1-4] an identifier in use: {id:?}");
        assert!(
            self.link.in_flight.len() <= usize::from(self.link.receive_maximum),
            "[MQTT-3.3.4-9]"
        );
        if publish.qos == QoS::AtLeastOnce {
            self.link
                .acknowledgements
                .push_back(Packet::PubAck(PubAck::success(id)));
            return true;
        }
        self.link
            .acknowledgements
            .push_back(Packet::PubRec(PubRec::success(id)));
        match self.held.insert(id, message) {
            None => true,
            Some(before) => {
                assert_eq!(before, message, "an identifier of a message that is held");
                assert!(publish.dup, "[MQTT-3.3.1-1]");
                false
            }
        }
    }

    /// PUBREL: the broker knows that the message has arrived.
    pub(super) fn release(&mut self, pubrel: &PubRel) {
        let id = pubrel.packet_id;
        self.held.remove(&id);
        // Sent again over a new connection, it counts as in flight again.
        self.link.in_flight.insert(id, QoS::ExactlyOnce);
        self.link
            .acknowledgements
            .push_back(Packet::PubComp(PubComp::success(id)));
    }

    /// PUBACK, PUBREC or PUBCOMP; gives the message that the broker has taken now.
    pub(super) fn acknowledged(&mut self, packet: &Packet) -> Option<usize> {
        let place = |client: &Self, id: PacketId| {
            let same = |one: &Unacknowledged| one.id == id;
            client.unacknowledged.iter().position(same)
        };
        match packet {
            Packet::PubAck(PubAck {
                packet_id, reason, ..
            }) => {
                assert!(!reason.is_error(), "{reason:?}");
                let at = place(self, *packet_id)?;
                Some(self.unacknowledged.remove(at)?.message)
            }
            Packet::PubRec(PubRec {
                packet_id, reason, ..
            }) => {
                assert!(!reason.is_error(), "{reason:?}");
                let at = place(self, *packet_id)?;
                self.unacknowledged[at].released = true;
                let message = self.unacknowledged[at].message;
                self.say(&Packet::PubRel(PubRel::success(*packet_id)));
                Some(message)
            }
            Packet::PubComp(PubComp {
                packet_id, reason, ..
            }) => {
                let at = place(self, *packet_id)?;
                assert!(
                    matches!(
                        reason,
                        ReasonCode::Success | ReasonCode::PacketIdentifierNotFound
                    ),
                    "{reason:?}"
                );
                self.unacknowledged.remove(at);
                None
            }
            _ => None,
        }
    }

    /// The session is over, or will be when its connection is: nothing in it is certain any more.
    pub(super) fn session_ends(&mut self, at: Tick) {
        for subscription in &mut self.subscriptions {
            subscription.certain_until.get_or_insert(at);
        }
    }

    /// A new session has begun: the old one has ended.
    pub(super) fn session_begins(&mut self, at: Tick) {
        for subscription in &mut self.subscriptions {
            subscription.certain_until.get_or_insert(at);
            subscription.possible_until.get_or_insert(at);
        }
        self.incarnation += 1;
        self.held.clear();
    }

    /// What has come of each message in the present session.
    pub(super) fn arrived(&self) -> BTreeSet<usize> {
        let now = |arrival: &&Arrival| arrival.incarnation == self.incarnation;
        self.arrivals
            .iter()
            .filter(now)
            .map(|arrival| arrival.message)
            .collect()
    }
}
