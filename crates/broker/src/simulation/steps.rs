//! What happens in a simulation: clients connect, leave, subscribe and publish; lines are lost, time passes.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use weir_mqtt::properties::{
    DisconnectProperties, PublishProperties, SubscribeProperties, WillProperties,
};
use weir_mqtt::{
    Connect, Disconnect, Packet, PubRel, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionId, SubscriptionRequest, TopicAlias,
    TopicName, Unsubscribe, Utf8, Will,
};

use super::client::{Asked, Link, Unacknowledged};
use super::ledger::{Kind, SHARE, Sent, Subscription};
use super::{LONGEST_EXPIRY_S, Simulation, parts};
use crate::core::Millis;
use crate::store::Memory;

const FILTERS: [&str; 8] = [
    "t/#",
    "t/+",
    "t/0",
    "t/a-topic-that-is-worth-an-alias/#",
    "k/+",
    "w/#",
    "d/#",
    "$share/g/s/#",
];

/// Bytes that a client that takes small packets only does not take.
const LARGE: usize = 400;
const SMALL_PACKETS: u32 = 300;

/// How a client connects.
pub(super) struct Hello {
    pub(super) clean_start: bool,
    pub(super) expiry_s: u32,
    pub(super) receive_maximum: Option<u16>,
    pub(super) max_packet: Option<u32>,
    pub(super) alias_maximum: u16,
    /// QoS and delay.
    pub(super) will: Option<(QoS, u32)>,
    /// How much the line takes while the client does not read.
    pub(super) room: usize,
}

impl Hello {
    /// A session that stays.
    pub(super) fn lasting() -> Self {
        Self {
            clean_start: false,
            expiry_s: LONGEST_EXPIRY_S,
            receive_maximum: None,
            max_packet: None,
            alias_maximum: 0,
            will: None,
            room: 1 << 20,
        }
    }
}

impl Simulation {
    pub(super) fn connect_somehow(&mut self, at: usize) {
        let random = &mut self.random;
        let anchor = at == 0;
        let hello = Hello {
            clean_start: !anchor && random.random_bool(0.15),
            expiry_s: if anchor {
                LONGEST_EXPIRY_S
            } else {
                [0, 20, 300, LONGEST_EXPIRY_S][random.random_range(0..4)]
            },
            receive_maximum: random.random_bool(0.7).then(|| random.random_range(1..6)),
            max_packet: random.random_bool(0.2).then_some(SMALL_PACKETS),
            alias_maximum: random.random_range(0..3),
            will: random.random_bool(0.5).then(|| {
                let qos = QoS::try_from(random.random_range(0..3)).unwrap();
                (qos, [0, 0, 5, 60][random.random_range(0..4)])
            }),
            room: random.random_range(20..3000),
        };
        self.connect(at, &hello);
    }

    /// A connection, up to its CONNACK; one that exists is taken over.
    pub(super) fn connect(&mut self, at: usize, hello: &Hello) {
        if std::mem::take(&mut self.clients[at].has_said_goodbye) {
            // Else it would be a race whether the broker hears it before the new connection.
            self.idle();
        }
        let (begun, now) = (self.tick, self.now());
        let client = &mut self.clients[at];
        let v5 = client.version.is_v5();
        let present = !hello.clean_start
            && match client.session {
                Some(expiry_s) if client.is_connected() => expiry_s > 0,
                _ => client.has_session(now),
            };
        if !present && client.session.is_some() {
            client.session_ends(begun);
        }
        let was_connected = client.is_connected();
        self.ghosts.extend(client.link.line.take());
        let will_message = hello.will.map(|(qos, _)| {
            let topic = format!("w/{at}");
            self.messages.push(Sent::new(at, topic, Kind::Will, qos));
            self.messages.len() - 1
        });
        let connect = self.packet(at, hello, will_message);
        let line = self.net.dial(hello.room);
        let client = &mut self.clients[at];
        client.link = Link {
            line: Some(line),
            alias_maximum_in: if v5 { hello.alias_maximum } else { 0 },
            receive_maximum: hello.receive_maximum.filter(|_| v5).unwrap_or(u16::MAX),
            max_packet: match hello.max_packet.filter(|_| v5) {
                Some(max) => usize::try_from(max).unwrap(),
                None => usize::MAX,
            },
            ..Link::default()
        };
        client.was_limited |= v5 && hello.max_packet.is_some();
        client.say(&Packet::Connect(Box::new(connect)));
        client.write(usize::MAX);
        let connack = loop {
            let client = &mut self.clients[at];
            let line = client.link.line.clone().unwrap();
            client.link.unread.extend(line.take(usize::MAX));
            if let Some(packet) = client.next_packet() {
                break packet;
            }
            assert!(self.broker_runs(1), "no CONNACK comes");
        };
        let Packet::ConnAck(connack) = connack else {
            panic!("{connack:?} before CONNACK")
        };
        assert_eq!(connack.reason, ReasonCode::Success);
        // MQTT 3.1 has no such flag.
        if client_says_present(&self.clients[at]) {
            let client = &self.clients[at];
            assert_eq!(
                connack.session_present, present,
                "[MQTT-3.2.2-3] {at} at {now} after {:?} for {:?}, taken over {was_connected}, crashes {:?} now {}",
                client.ended_at, client.session, self.crashes, self.tick
            );
        }
        self.tick += 1;
        self.settle_old_will(at, was_connected, present, begun);
        let client = &mut self.clients[at];
        client.link.alias_maximum_out = connack.properties.topic_alias_maximum.unwrap_or(0);
        client.link.send_maximum = connack
            .properties
            .receive_maximum
            .map_or(u16::MAX, NonZeroU16::get);
        client.begun_at = now;
        client.ended_at = None;
        client.session = Some(match (v5, hello.clean_start) {
            (true, _) => hello.expiry_s,
            (false, true) => 0,
            (false, false) => LONGEST_EXPIRY_S,
        });
        let delay = |(_, delay_s): (QoS, u32)| if v5 { delay_s } else { 0 };
        client.will = will_message.zip(hello.will.map(delay));
        if present {
            self.send_again(at);
        } else {
            self.begin_anew(at);
        }
    }

    fn packet(&self, at: usize, hello: &Hello, will: Option<usize>) -> Connect {
        let client = &self.clients[at];
        let mut connect = Connect::new(client.version, Utf8::from(client.name));
        connect.clean_start = hello.clean_start;
        connect.keep_alive_s = 0;
        let v5 = client.version.is_v5();
        connect.will = hello.will.zip(will).map(|((qos, delay_s), message)| Will {
            topic: TopicName::new(&format!("w/{at}")).unwrap(),
            payload: Bytes::from(message.to_string()),
            qos,
            retain: false,
            properties: WillProperties {
                will_delay_interval_s: (v5 && delay_s > 0).then_some(delay_s),
                ..WillProperties::default()
            },
        });
        if v5 {
            connect.properties.session_expiry_interval_s = Some(hello.expiry_s);
            connect.properties.receive_maximum = hello.receive_maximum.and_then(NonZeroU16::new);
            connect.properties.maximum_packet_size = hello.max_packet.and_then(NonZeroU32::new);
            connect.properties.topic_alias_maximum = Some(hello.alias_maximum);
        }
        connect
    }

    /// A new connection has been welcomed: what that means for the Will of the one before.
    fn settle_old_will(&mut self, at: usize, taken_over: bool, present: bool, begun: u64) {
        let client = &mut self.clients[at];
        let due = client.will_due.take();
        let Some((will, delay_s)) = client.will.take() else {
            return;
        };
        let at_once = delay_s.min(client.session.unwrap_or(0)) == 0;
        let published = if taken_over {
            at_once || !present
        } else {
            due.is_some() && !present
        };
        let message = &mut self.messages[will];
        if published {
            message.from = Some(begun);
            message.until = Some(self.tick);
        } else if taken_over || due.is_some() {
            // [MQTT-3.1.3-9]
            message.forbidden = true;
        }
    }

    /// `[MQTT-4.4.0-1]`
    fn send_again(&mut self, at: usize) {
        let client = &mut self.clients[at];
        for one in client.unacknowledged.clone() {
            if one.released {
                client.say(&Packet::PubRel(PubRel::success(one.id)));
            } else {
                self.messages[one.message].repeated = true;
                client.say(&Packet::Publish(Publish {
                    dup: true,
                    ..one.publish
                }));
            }
        }
    }

    fn begin_anew(&mut self, at: usize) {
        let tick = self.tick;
        let client = &mut self.clients[at];
        client.session_begins(tick);
        for one in std::mem::take(&mut client.unacknowledged) {
            self.messages[one.message].lost |= self.messages[one.message].until.is_none();
        }
        self.note_end_of_session(at);
    }

    fn note_end_of_session(&mut self, at: usize) {
        let client = &self.clients[at];
        self.member_ended |= client
            .subscriptions
            .iter()
            .any(|subscription| subscription.filter.starts_with(SHARE));
    }

    /// The connection breaks.
    pub(super) fn lose(&mut self, at: usize) {
        let Some(line) = self.clients[at].link.line.take() else {
            return;
        };
        line.lose();
        self.connection_ends(at, true);
    }

    fn connection_ends(&mut self, at: usize, with_will: bool) {
        let (now, tick) = (self.now(), self.tick);
        let client = &mut self.clients[at];
        client.link = Link::default();
        client.ended_at = Some(now);
        if client.session == Some(0) {
            client.session_ends(tick);
            self.note_end_of_session(at);
        }
        let client = &mut self.clients[at];
        let Some((will, delay_s)) = client.will else {
            return;
        };
        let delay_s = delay_s.min(client.session.unwrap_or(0));
        if !with_will {
            client.will = None;
            self.messages[will].forbidden = true;
        } else if delay_s == 0 {
            client.will = None;
            self.messages[will].from = Some(tick);
            self.due_wills.push(will);
        } else {
            client.will_due = Some(now + u64::from(delay_s) * 1000);
        }
    }

    /// DISCONNECT, which the broker hears whatever else happens.
    pub(super) fn disconnect(&mut self, at: usize) {
        let Some(line) = self.clients[at].link.line.clone() else {
            return;
        };
        let v5 = self.clients[at].version.is_v5();
        let with_will = v5 && self.random.random_bool(0.3);
        let other_expiry = v5 && at != 0 && self.random.random_bool(0.3);
        let client = &mut self.clients[at];
        let mut disconnect = Disconnect::new(if with_will {
            ReasonCode::DisconnectWithWill
        } else {
            ReasonCode::Success
        });
        if other_expiry && client.session.is_some_and(|expiry_s| expiry_s > 0) {
            let expiry_s = [0, 50][self.random.random_range(0..2)];
            client.session = Some(expiry_s);
            disconnect.properties = Some(Box::new(DisconnectProperties {
                session_expiry_interval_s: Some(expiry_s),
                ..DisconnectProperties::default()
            }));
        }
        client.say(&Packet::Disconnect(disconnect));
        client.write(usize::MAX);
        line.close();
        client.link.line = None;
        client.has_said_goodbye = true;
        self.goodbye_on_its_way = true;
        self.connection_ends(at, with_will);
    }

    pub(super) fn let_time_pass(&mut self) {
        self.idle();
        let ms = match self.random.random_range(0..10) {
            0 => self.random.random_range(60_000..400_000),
            1..4 => self.random.random_range(5_000..30_000),
            _ => self.random.random_range(1..3_000),
        };
        self.pass(ms);
    }

    /// Time passes while the broker has nothing else to do.
    pub(super) fn pass(&mut self, ms: Millis) {
        let (before, now) = (self.tick, self.now() + ms);
        let mut ended = Vec::new();
        for (at, client) in self.clients.iter_mut().enumerate() {
            let expired = client.session.is_some() && !client.has_session(now);
            if client.ended_at.is_some() && expired {
                client.session_ends(before);
                ended.push(at);
            }
            if let (Some(due), Some((will, _))) = (client.will_due, client.will)
                && due <= now
            {
                self.messages[will].from = Some(before);
                self.due_wills.push(will);
                (client.will, client.will_due) = (None, None);
            }
        }
        let due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        for message in &mut self.messages {
            if due(message.due.0) {
                message.from.get_or_insert(before);
            }
        }
        self.net.pass(ms);
        self.idle();
        let tick = self.tick;
        for at in ended {
            self.clients[at].session = None;
            for subscription in &mut self.clients[at].subscriptions {
                subscription.possible_until.get_or_insert(tick);
            }
            self.note_end_of_session(at);
        }
        for message in &mut self.messages {
            if due(message.due.1) {
                message.until.get_or_insert(tick);
            }
        }
    }

    /// The broker is gone at once, and another takes its place with what the storage has kept.
    pub(super) fn crash(&mut self) {
        let Some(storage) = self.storage.clone() else {
            return;
        };
        if self.goodbye_on_its_way || self.random.random() {
            self.idle();
        }
        // What the old broker does while it is taken down does not count: nothing takes down a real one.
        self.storage = Some(Memory::of(storage.state()));
        self.dropped_before = self.dropped();
        let old = Arc::downgrade(&self.net.broker);
        let next = parts(&self.settings, self.storage.as_ref());
        self.net.replace(next);
        assert!(old.upgrade().is_none(), "something holds the old broker");
        self.net.broker.restore().unwrap();
        self.ghosts.clear();
        self.tick += 1;
        let tick = self.tick;
        self.crashes.push(tick);
        self.lose_what_mortal_members_had();
        let clients = &self.clients;
        self.due_wills.retain(|will| {
            let message = &mut self.messages[*will];
            let kept = clients[message.publisher].session != Some(0);
            message.lost |= !kept;
            kept
        });
        for at in 0..self.clients.len() {
            let now = self.now();
            let client = &mut self.clients[at];
            let was_connected = client.link.line.take().is_some();
            if was_connected {
                client.link = Link::default();
                client.ended_at = Some(now);
            }
            if let Some((will, delay_s)) = client.will {
                let delay_s = delay_s.min(client.session.unwrap_or(0));
                if client.session == Some(0) {
                    // It was in the memory of the broker only.
                    self.messages[will].lost = true;
                    (client.will, client.will_due) = (None, None);
                } else if was_connected && delay_s == 0 {
                    self.messages[will].from = Some(tick);
                    self.due_wills.push(will);
                    (client.will, client.will_due) = (None, None);
                } else if was_connected {
                    client.will_due = Some(now + u64::from(delay_s) * 1000);
                }
            }
            if client.session == Some(0) {
                client.session = None;
                client.session_ends(tick);
                self.note_end_of_session(at);
            }
        }
    }

    /// A member of the group whose session does not outlive the crash takes with it what it was given.
    fn lose_what_mortal_members_had(&mut self) {
        let mortal = self.clients.iter().any(|client| {
            let shared = |one: &Subscription| {
                one.filter.starts_with(SHARE)
                    && one.incarnation == client.incarnation
                    && one.possible_until.is_none()
            };
            client.session == Some(0) && client.subscriptions.iter().any(shared)
        });
        if !mortal {
            return;
        }
        let arrived = |number: usize| {
            let mut all = self.clients.iter().flat_map(|client| &client.arrivals);
            all.any(|arrival| arrival.message == number)
        };
        let lost: Vec<usize> = (0..self.messages.len())
            .filter(|number| self.messages[*number].kind == Kind::Shared && !arrived(*number))
            .collect();
        for number in lost {
            self.messages[number].lost = true;
        }
    }

    pub(super) fn bury_a_ghost(&mut self) {
        if !self.ghosts.is_empty() {
            let at = self.random.random_range(0..self.ghosts.len());
            let ghost = self.ghosts.swap_remove(at);
            if self.random.random() {
                ghost.close();
            } else {
                ghost.lose();
            }
        }
    }

    pub(super) fn subscribe(&mut self, at: usize) {
        let filter = FILTERS[self.random.random_range(0..FILTERS.len())];
        if at == 0 && filter != "k/+" {
            // The first client's stay as they are.
            return;
        }
        let shared = filter.starts_with(SHARE);
        let v5 = self.clients[at].version.is_v5();
        let qos = if shared {
            self.share_qos
        } else {
            QoS::try_from(self.random.random_range(0..3)).unwrap()
        };
        let no_local = v5 && !shared && self.random.random_bool(0.2);
        let as_published = v5 && self.random.random_bool(0.3);
        let id = (v5 && self.random.random_bool(0.3)).then(|| self.random.random_range(1..300));
        self.ask_to_subscribe(at, filter, qos, no_local, as_published, id);
    }

    /// Filters that nobody publishes to, so that a packet is handled in many steps, and so is the end of a session.
    fn padding(&mut self) -> Vec<SubscriptionFilter> {
        let count = match self.random.random_bool(0.2) {
            true => self.random.random_range(1..120),
            false => 0,
        };
        let filter = |number| SubscriptionFilter::parse(&format!("x/{number}/of/no/interest"));
        (0..count).map(|number| filter(number).unwrap()).collect()
    }

    pub(super) fn ask_to_subscribe(
        &mut self,
        at: usize,
        filter: &'static str,
        qos: QoS,
        no_local: bool,
        retain_as_published: bool,
        id: Option<u32>,
    ) {
        let tick = self.tick;
        let mut filters = self.padding();
        let among = self.random.random_range(0..=filters.len());
        filters.insert(among, SubscriptionFilter::parse(filter).unwrap());
        let client = &mut self.clients[at];
        if !client.is_connected() || client.link.asked.len() > 5 {
            return;
        }
        for before in &mut client.subscriptions {
            if before.filter == filter {
                // It goes on with other options, so nothing of the old ones is certain.
                before.certain_until.get_or_insert(tick);
            }
        }
        client.subscriptions.push(Subscription {
            filter,
            incarnation: client.incarnation,
            qos,
            no_local,
            id,
            possible_from: tick,
            certain_from: None,
            certain_until: None,
            possible_until: None,
        });
        let packet_id = client.free_id();
        let place = client.subscriptions.len() - 1;
        client.link.asked.insert(packet_id, Asked::Subscribe(place));
        let options = SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling: RetainHandling::OnSubscribe,
        };
        let id = id.and_then(SubscriptionId::new);
        client.say(&Packet::Subscribe(Subscribe {
            packet_id,
            requests: filters
                .into_iter()
                .map(|filter| SubscriptionRequest { filter, options })
                .collect(),
            properties: id.map(|id| {
                Box::new(SubscribeProperties {
                    subscription_identifier: Some(id),
                    ..SubscribeProperties::default()
                })
            }),
        }));
    }

    pub(super) fn unsubscribe(&mut self, at: usize) {
        let filter = FILTERS[self.random.random_range(0..FILTERS.len())];
        let tick = self.tick;
        let mut filters = self.padding();
        let among = self.random.random_range(0..=filters.len());
        filters.insert(among, SubscriptionFilter::parse(filter).unwrap());
        let client = &mut self.clients[at];
        if at == 0 || !client.is_connected() || client.link.asked.len() > 5 {
            return;
        }
        let mut ended = Vec::new();
        for (place, subscription) in client.subscriptions.iter_mut().enumerate() {
            if subscription.filter == filter && subscription.possible_until.is_none() {
                subscription.certain_until.get_or_insert(tick);
                ended.push(place);
            }
        }
        let packet_id = client.free_id();
        client
            .link
            .asked
            .insert(packet_id, Asked::Unsubscribe(ended));
        client.say(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters,
            properties: None,
        }));
    }

    pub(super) fn publish(&mut self, at: usize) {
        let random = &mut self.random;
        let mut qos = QoS::try_from(random.random_range(0..3)).unwrap();
        let number = random.random_range(0..3);
        let (kind, topic) = match random.random_range(0..10) {
            0..4 => (Kind::Live, format!("t/{number}")),
            4 => {
                let topic = format!("t/a-topic-that-is-worth-an-alias/{number}");
                (Kind::Live, topic)
            }
            5..7 => (Kind::Shared, format!("s/{number}")),
            7..9 => (Kind::Kept, format!("k/{at}")),
            _ => (Kind::Delayed, format!("d/{number}")),
        };
        if kind == Kind::Delayed {
            qos = QoS::AtLeastOnce;
        }
        let client = &self.clients[at];
        let v5 = client.version.is_v5();
        if !client.is_connected() || (qos != QoS::AtMostOnce && !client.has_window()) {
            return;
        }
        let mut message = Sent::new(at, topic, kind, qos);
        match kind {
            Kind::Kept => {
                message.clears = random.random_bool(0.25);
                message.expiry_s = (v5 && random.random_bool(0.3)).then_some(30);
            }
            Kind::Delayed => message.delay_s = random.random_range(1..10),
            _ => {
                message.expiry_s = (v5 && random.random_bool(0.1)).then_some(10);
                message.large = random.random_bool(0.1);
            }
        }
        let now = self.net.passed_ms();
        if kind == Kind::Delayed {
            message.due.0 = Some(now + u64::from(message.delay_s) * 1000);
        } else {
            message.from = Some(self.tick);
        }
        self.send(at, message);
    }

    fn send(&mut self, at: usize, message: Sent) {
        let number = self.messages.len();
        let payload = if message.clears {
            String::new()
        } else if message.large {
            format!("{number:LARGE$}")
        } else {
            number.to_string()
        };
        let topic = if message.kind == Kind::Delayed {
            format!("$delayed/{}/{}", message.delay_s, message.topic)
        } else {
            message.topic.clone()
        };
        let mut publish = Publish::new(Utf8::new(&topic).unwrap(), payload.into());
        publish.qos = message.qos;
        publish.retain = message.kind == Kind::Kept;
        if let Some(expiry_s) = message.expiry_s {
            publish.properties = Some(Box::new(PublishProperties {
                message_expiry_interval_s: Some(expiry_s),
                ..PublishProperties::default()
            }));
        }
        let qos = message.qos;
        self.messages.push(message);
        let alias = self.alias_for(at, &topic);
        let client = &mut self.clients[at];
        if qos != QoS::AtMostOnce {
            let id = client.free_id();
            publish.packet_id = Some(id);
            client.unacknowledged.push_back(Unacknowledged {
                id,
                message: number,
                publish: publish.clone(),
                released: false,
            });
        }
        if let Some((alias, known)) = alias {
            let properties = publish.properties.get_or_insert_default();
            properties.topic_alias = TopicAlias::new(alias);
            if known {
                publish.topic = Utf8::from("");
            }
        }
        client.say(&Packet::Publish(publish));
    }

    /// An alias for this topic, and whether the broker knows it.
    fn alias_for(&mut self, at: usize, topic: &str) -> Option<(u16, bool)> {
        let link = &mut self.clients[at].link;
        if link.alias_maximum_out == 0 || self.random.random() {
            return None;
        }
        let alias = self.random.random_range(1..=link.alias_maximum_out);
        let before = link.aliases_out.insert(alias, topic.to_owned());
        Some((alias, before.as_deref() == Some(topic)))
    }
}

fn client_says_present(client: &super::client::Client) -> bool {
    client.version != weir_mqtt::ProtocolVersion::V3_1
}
