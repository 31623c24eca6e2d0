//! What a fuzzer runs: properties of whole connections that must hold whatever clients send. A broken one panics.
//!
//! A plain function, so that the fuzz target and the ordinary tests run the same.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_mqtt::properties::{
    AuthProperties, DisconnectProperties, PublishProperties, SubscribeProperties, WillProperties,
};
use weir_mqtt::{
    Auth, Connect, Disconnect, Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec, PubRel,
    Publish, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, SubscriptionFilter,
    SubscriptionId, SubscriptionRequest, TopicAlias, TopicName, Unsubscribe, Utf8, Will, codec,
};

use crate::auth::anonymous::Anonymous;
use crate::auth::enhanced::{Exchange, Mechanism, Mechanisms, Step};
use crate::auth::{AllowAll, Identity};
use crate::core::connect::Capabilities;
use crate::driver::Parts;
use crate::net::in_memory::{Line, Net};
use crate::pipeline::Pipeline;
use crate::pipeline::world::World;
use crate::settings::BrokerSettings;

/// Connections at once.
const SLOTS: usize = 4;

/// The largest packet that the broker reads.
const MAX_PACKET: usize = 4096;

/// More than a session's outbox may hold: its bound, the answers of one step, and one packet beyond.
const MAX_OUTBOX: usize = 256 * 1024;

const TOPICS: [&str; 8] = [
    "a",
    "a/b",
    "long/enough/for/an/alias",
    "$delayed/3/a",
    "$retain/7/a/b",
    "",
    "$SYS/broker/x",
    "a/b/c/d/e/f/g/h/i/j",
];

const FILTERS: [&str; 8] = [
    "a",
    "#",
    "a/+",
    "$share/g/a",
    "$share/g/#",
    "$queue/a/b",
    "long/enough/for/an/alias",
    "$SYS/#",
];

const CLIENT_IDS: [&str; 4] = ["", "a", "b", "a client id that is too long for this broker"];

const PACKET_SIZES: [u32; 4] = [u32::MAX, 200, 40, 5];

/// A script for several clients of one broker. The first byte chooses its settings. Each step begins with a byte: two
/// bits for the client, three for what it does, three for how many turns the broker gets after it, where 0 is as many
/// as it wants.
///
/// Clients send raw bytes or packets, read, come, go and get lost; time passes. Every answer must be a sequence of
/// well-formed packets that the client may get, and in the end nothing may be left of anyone.
pub fn connection(script: &[u8]) {
    let mut script = Script(script);
    let Some(flavour) = script.next() else { return };
    let mut net = Net::new(parts(flavour));
    let mut clients: [Option<Client>; SLOTS] = std::array::from_fn(|_| None);
    while let Some(step) = script.next() {
        let slot = usize::from(step & 3);
        let what = step >> 2 & 7;
        if what == 7 {
            let n = u64::from(script.next().unwrap_or(0));
            net.pass(n * n * 10);
        } else {
            let client = clients[slot].get_or_insert_with(|| Client::new(net.dial(1024)));
            client.act(what, &mut script);
            if client.gone {
                clients[slot] = None;
            }
        }
        let turns = usize::from(step >> 5);
        net.run(if turns == 0 { 10_000 } else { turns - 1 }, |_| 0);
        look_at_sessions(&net);
    }
    end(net, clients);
}

fn parts(flavour: u8) -> Parts {
    let flag = |bit: u8| flavour >> bit & 1 == 1;
    let settings = BrokerSettings {
        max_packet_size: MAX_PACKET,
        max_client_id: 16,
        max_topic_levels: 8,
        max_inflight: 3,
        max_queued: 8,
        max_queued_bytes: 16 * 1024,
        session_expiry_max: Duration::from_secs(100),
        max_subscriptions_per_client: 6,
        max_outbox_bytes: 2048,
        topic_alias_maximum: 2,
        topic_alias_out: 2,
        reason_strings: !flag(0),
        keepalive_max_s: flag(1).then_some(60),
        max_delayed: 4,
        max_delayed_bytes: 8 * 1024,
        max_retained: 4,
        max_retained_bytes: 8 * 1024,
        response_information: flag(2).then(|| "answers/%c/".to_owned()),
        capabilities: if flag(3) {
            Capabilities {
                max_qos: QoS::AtLeastOnce,
                retain: false,
                wildcard_subscriptions: false,
                shared_subscriptions: false,
                subscription_identifiers: false,
            }
        } else {
            Capabilities::default()
        },
        ..BrokerSettings::default()
    };
    let pipeline = Pipeline::new(World::new("fuzz", jiff::tz::TimeZone::UTC));
    Parts {
        settings,
        pipeline: Arc::new(pipeline),
        authenticator: Arc::new(Anonymous),
        authorizer: Arc::new(AllowAll),
        mechanisms: Mechanisms::default().with(Arc::new(YesOrNo)),
        capture: None,
        banned: Arc::default(),
        hooks: crate::hooks::Hooks::default(),
        storage: None,
    }
}

/// What each session holds has its bounds at any time.
fn look_at_sessions(net: &Net) {
    let settings = &net.broker.settings;
    net.broker.each_session(|handle| {
        let mut slot = handle.lock();
        let session = &mut slot.session;
        assert!(session.queued_len() <= settings.max_queued);
        assert!(session.queued_bytes() <= settings.max_queued_bytes);
        assert!(session.in_flight_len() <= usize::from(settings.max_inflight));
        assert!(session.subscriptions_len() <= settings.max_subscriptions_per_client);
        assert!(session.outbox().len() <= MAX_OUTBOX);
    });
    let stats = &net.broker.stats;
    assert!(stats.retained_messages.get() <= settings.max_retained as u64);
    assert!(stats.delayed_messages.get() <= settings.max_delayed as u64);
}

/// Everyone goes, and after the longest expiry nothing is left.
fn end(mut net: Net, clients: [Option<Client>; SLOTS]) {
    for mut client in clients.into_iter().flatten() {
        net.run(10_000, |_| 0);
        client.read(usize::MAX);
        client.line.close();
    }
    net.run(100_000, |_| 0);
    let stats = Arc::clone(&net.broker.stats);
    assert_eq!(net.open(), 0, "connections without clients");
    assert_eq!(stats.connections_size.get(), 0);
    assert_eq!(stats.sessions_connected.get(), 0);
    // A session may wait for a Will that waits for a session.
    for _ in 0..3 {
        net.pass(1_000_000);
    }
    // The filters of those that have expired are swept out.
    net.run(100_000, |_| 0);
    assert_eq!(stats.sessions.get(), 0);
    assert_eq!(stats.subscriptions.get(), 0);
    assert_eq!(stats.delayed_messages.get(), 0);
    assert!(net.broker.remembers_nothing());
}

/// The bytes that say what happens.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Two bytes.
    fn two(&mut self) -> [u8; 2] {
        [self.next().unwrap_or(0), self.next().unwrap_or(0)]
    }

    fn take(&mut self, len: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A client that sends anything, and looks closely at what it gets.
struct Client {
    line: Line,
    gone: bool,
    /// What was sent and is not yet a whole frame.
    sent: Vec<u8>,
    /// What the client has sent first, once it is whole or broken.
    first: Option<First>,
    /// What came and is not yet a whole frame.
    unread: Vec<u8>,
    /// A CONNACK has come, and it was a welcome or not.
    welcomed: Option<bool>,
    /// Nothing may come any more.
    last_word: bool,
    aliases: BTreeMap<u16, Utf8>,
    /// PUBLISH packets that came and are not settled.
    in_flight: BTreeMap<PacketId, QoS>,
    /// Acknowledgements were sent for what had not come: the count of what is in flight means nothing.
    guessed: bool,
}

/// The client's first packet.
enum First {
    Connect(Box<Connect>),
    /// It is none; it may be refused in this version.
    Broken(Option<ProtocolVersion>),
}

impl Client {
    fn new(line: Line) -> Self {
        Self {
            line,
            gone: false,
            sent: Vec::new(),
            first: None,
            unread: Vec::new(),
            welcomed: None,
            last_word: false,
            aliases: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            guessed: false,
        }
    }

    fn version(&self) -> Option<ProtocolVersion> {
        match self.first.as_ref()? {
            First::Connect(connect) => Some(connect.version),
            First::Broken(version) => *version,
        }
    }

    fn act(&mut self, what: u8, script: &mut Script<'_>) {
        match what {
            0 => {
                let len = usize::from(script.next().unwrap_or(0));
                let bytes = script.take(len).to_vec();
                self.send(&bytes);
            }
            1 => self.send_packet(&connect(script.two())),
            2 => {
                let publish = publish(script.two());
                self.send_packet(&Packet::Publish(publish));
            }
            3 => {
                let packet = subscribe(script.two());
                self.send_packet(&packet);
            }
            4 => {
                let packet = small(script.next().unwrap_or(0));
                self.send_packet(&packet);
            }
            5 => {
                let len = usize::from(script.next().unwrap_or(0));
                self.read(if len == 255 { usize::MAX } else { len * 4 });
            }
            _ => {
                if script.next().unwrap_or(0) & 1 == 0 {
                    self.line.close();
                } else {
                    self.line.lose();
                }
                self.gone = true;
            }
        }
    }

    fn send_packet(&mut self, packet: &Packet) {
        let version = self.version().unwrap_or(ProtocolVersion::V5);
        let mut bytes = Vec::new();
        if codec::encode(packet, version, &mut bytes).is_ok() {
            self.send(&bytes);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        self.line.send(bytes);
        loop {
            if self.sent.first().is_some_and(|first| first >> 4 != 1) && self.first.is_none() {
                self.first = Some(First::Broken(None));
            }
            match codec::frame_length(&self.sent, MAX_PACKET) {
                Ok(Some(len)) => {
                    let frame: Vec<u8> = self.sent.drain(..len).collect();
                    self.has_sent(frame.into());
                }
                Ok(None) => return,
                Err(error) => {
                    self.first.get_or_insert(First::Broken(error.answer_in));
                    return;
                }
            }
        }
    }

    fn has_sent(&mut self, frame: Bytes) {
        let version = self.version().unwrap_or(ProtocolVersion::V5);
        let packet = codec::decode(frame, version);
        match &self.first {
            None => {
                self.first = Some(match packet {
                    Ok(Packet::Connect(connect)) => First::Connect(connect),
                    Ok(_) => First::Broken(None),
                    Err(error) => First::Broken(error.answer_in),
                });
            }
            Some(_) => match packet {
                Ok(Packet::PubAck(puback)) => self.settled(puback.packet_id, QoS::AtLeastOnce),
                Ok(Packet::PubRec(pubrec)) if pubrec.reason.is_error() => {
                    self.settled(pubrec.packet_id, QoS::ExactlyOnce);
                }
                Ok(Packet::PubComp(pubcomp)) => self.settled(pubcomp.packet_id, QoS::ExactlyOnce),
                _ => {}
            },
        }
    }

    fn settled(&mut self, id: PacketId, qos: QoS) {
        if self.in_flight.get(&id) == Some(&qos) {
            self.in_flight.remove(&id);
        } else {
            self.guessed = true;
        }
    }

    /// Takes what has come and looks at it.
    fn read(&mut self, most: usize) {
        let bytes = self.line.take(most);
        self.unread.extend_from_slice(&bytes);
        while !self.unread.is_empty() {
            let length = codec::frame_length(&self.unread, codec::MAX_PACKET_SIZE);
            let Some(len) = length.expect("the broker sends frames") else {
                break;
            };
            let frame: Vec<u8> = self.unread.drain(..len).collect();
            let version = self.version().expect("nobody is answered before a CONNECT");
            let packet = codec::decode(frame.into(), version).expect("the broker sends packets");
            self.got(packet, len, version);
        }
        if self.line.is_over() {
            // Nobody waits for a client that reads too slowly to say goodbye.
            let whole = self.unread.is_empty() || self.line.was_full();
            assert!(whole, "half a packet before the end");
            self.line.close();
        }
    }

    fn got(&mut self, packet: Packet, len: usize, version: ProtocolVersion) {
        assert!(!self.last_word, "{packet:?} after the last word");
        let connect = match &self.first {
            Some(First::Connect(connect)) => Some(connect),
            _ => None,
        };
        // [MQTT-3.1.2-24]
        let most = connect.and_then(|connect| connect.properties.maximum_packet_size);
        let most = most.map_or(u32::MAX, NonZeroU32::get);
        assert!(len as u64 <= u64::from(most), "{packet:?} is too large");
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(self.welcomed, None, "a second CONNACK");
                let welcome = !connack.reason.is_error();
                assert!(!welcome || connect.is_some());
                self.welcomed = Some(welcome);
                self.last_word = !welcome;
            }
            Packet::Auth(_) => assert!(
                connect.is_some_and(|one| one.properties.authentication_method.is_some()),
                "AUTH to a client that did not ask"
            ),
            // [MQTT-3.2.0-1]
            packet => {
                assert_eq!(self.welcomed, Some(true), "{packet:?} before CONNACK");
                self.got_later(packet, version);
            }
        }
    }

    fn got_later(&mut self, packet: Packet, version: ProtocolVersion) {
        match packet {
            Packet::Publish(publish) => self.got_publish(publish),
            Packet::Disconnect(_) => {
                assert!(version.is_v5(), "DISCONNECT to an older client");
                self.last_word = true;
            }
            Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {}
            other => panic!("a broker does not send {other:?}"),
        }
    }

    fn got_publish(&mut self, publish: Publish) {
        let Some(First::Connect(connect)) = &self.first else {
            panic!("a PUBLISH to nobody")
        };
        let properties = publish.properties.as_deref();
        match properties.and_then(|properties| properties.topic_alias) {
            None => assert!(!publish.topic.is_empty()),
            Some(alias) => {
                // [MQTT-3.1.2-26]
                let most = connect.properties.topic_alias_maximum.unwrap_or(0);
                assert!(alias.get() <= most, "the alias {alias:?} is above {most}");
                if publish.topic.is_empty() {
                    assert!(self.aliases.contains_key(&alias.get()), "an unknown alias");
                } else {
                    self.aliases.insert(alias.get(), publish.topic.clone());
                }
            }
        }
        let Some(id) = publish.packet_id else { return };
        self.in_flight.insert(id, publish.qos);
        // [MQTT-3.3.4-9]
        let most = connect
            .properties
            .receive_maximum
            .map_or(u16::MAX, NonZeroU16::get);
        assert!(
            self.guessed || self.in_flight.len() <= usize::from(most),
            "more than the receive maximum"
        );
    }
}

fn connect([first, second]: [u8; 2]) -> Packet {
    let bits = |byte: u8, at: u8| usize::from(byte >> at & 3);
    let version = match first & 3 {
        0 => ProtocolVersion::V3_1,
        1 => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V5,
    };
    let mut connect = Connect::new(version, Utf8::from(CLIENT_IDS[bits(first, 3)]));
    connect.clean_start = first & 4 != 0;
    if first & 32 != 0 {
        connect.will = Some(Will {
            topic: TopicName::new("a").expect("a topic name"),
            payload: Bytes::from_static(b"will"),
            qos: QoS::try_from(first >> 6 & 1).unwrap_or(QoS::AtMostOnce),
            retain: first & 128 != 0,
            properties: WillProperties {
                will_delay_interval_s: (second & 1 != 0).then_some(5),
                ..WillProperties::default()
            },
        });
    }
    if version.is_v5() {
        let properties = &mut connect.properties;
        properties.session_expiry_interval_s = Some([0, 10, 100, u32::MAX][bits(second, 1)]);
        properties.receive_maximum =
            NonZeroU16::new(u16::try_from(bits(second, 3)).unwrap_or_default());
        properties.maximum_packet_size = NonZeroU32::new(PACKET_SIZES[bits(second, 5)]);
        properties.topic_alias_maximum = Some(u16::from(second & 1) * 3);
        properties.request_response_information = Some(second & 2 != 0);
        if second & 128 != 0 {
            properties.authentication_method = Some(Utf8::from("YES"));
            properties.authentication_data = Some(Bytes::copy_from_slice(&[second & 3]));
        }
    }
    Packet::Connect(Box::new(connect))
}

fn publish([first, second]: [u8; 2]) -> Publish {
    let topic = TOPICS[usize::from(first >> 4 & 7)];
    let payload = vec![first; [0, 1, 100, 2000][usize::from(second >> 6)]];
    let mut publish = Publish::new(Utf8::from(topic), payload.into());
    publish.qos = QoS::try_from(first & 3).unwrap_or(QoS::AtMostOnce);
    publish.retain = first & 4 != 0;
    if publish.qos != QoS::AtMostOnce {
        publish.packet_id = PacketId::new(u16::from(second & 7) + 1);
        publish.dup = first & 8 != 0;
    }
    let mut properties = PublishProperties {
        topic_alias: TopicAlias::new(u16::from(second >> 3 & 3)),
        ..PublishProperties::default()
    };
    if second & 32 != 0 {
        properties.message_expiry_interval_s = Some(u32::from(first & 7));
    }
    publish.properties = (!properties.is_empty()).then(|| Box::new(properties));
    publish
}

fn subscribe([first, second]: [u8; 2]) -> Packet {
    let packet_id = PacketId::new(u16::from(second & 15) + 1).expect("it is above 0");
    let filter = SubscriptionFilter::parse(FILTERS[usize::from(first & 7)]).expect("a filter");
    if first & 128 != 0 {
        return Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: vec![filter],
            properties: None,
        });
    }
    let options = SubscribeOptions {
        qos: QoS::try_from(first >> 3 & 3).unwrap_or(QoS::AtMostOnce),
        no_local: first & 32 != 0 && filter.share.is_none(),
        retain_as_published: first & 64 != 0,
        retain_handling: match second >> 4 & 3 {
            0 | 3 => RetainHandling::OnSubscribe,
            1 => RetainHandling::OnNewSubscription,
            _ => RetainHandling::Never,
        },
    };
    let id = SubscriptionId::new(u32::from(second >> 6));
    Packet::Subscribe(Subscribe {
        packet_id,
        requests: vec![SubscriptionRequest { filter, options }],
        properties: id.map(|id| {
            Box::new(SubscribeProperties {
                subscription_identifier: Some(id),
                ..SubscribeProperties::default()
            })
        }),
    })
}

/// Acknowledgements and what else is short.
fn small(byte: u8) -> Packet {
    let id = PacketId::new(u16::from(byte >> 3 & 15) + 1).expect("it is above 0");
    let fails = byte & 128 != 0;
    let reason = if fails {
        ReasonCode::UnspecifiedError
    } else {
        ReasonCode::Success
    };
    match byte & 7 {
        0 => Packet::PubAck(PubAck::new(id, reason)),
        1 => Packet::PubRec(PubRec::new(id, reason)),
        2 => Packet::PubRel(PubRel::success(id)),
        3 => Packet::PubComp(PubComp::success(id)),
        4 => Packet::PingReq,
        5 => Packet::Disconnect(Disconnect {
            reason: if fails {
                ReasonCode::DisconnectWithWill
            } else {
                ReasonCode::Success
            },
            properties: (byte & 8 != 0).then(|| {
                Box::new(DisconnectProperties {
                    session_expiry_interval_s: Some(u32::from(byte >> 4 & 7)),
                    ..DisconnectProperties::default()
                })
            }),
        }),
        _ => Packet::Auth(Auth {
            reason: if fails {
                ReasonCode::ReAuthenticate
            } else {
                ReasonCode::ContinueAuthentication
            },
            properties: Some(Box::new(AuthProperties {
                authentication_method: Some(Utf8::from("YES")),
                authentication_data: Some(Bytes::copy_from_slice(&[byte >> 3 & 3])),
                ..AuthProperties::default()
            })),
        }),
    }
}

/// Signs in whoever says so; the first byte is what happens.
struct YesOrNo;

impl Mechanism for YesOrNo {
    fn name(&self) -> &str {
        "YES"
    }

    fn begin(&self) -> Box<dyn Exchange> {
        Box::new(Self)
    }
}

impl Exchange for YesOrNo {
    fn step(&mut self, data: &[u8]) -> Step {
        match data.first() {
            Some(0) => Step::Done {
                identity: Identity::user(Utf8::from("somebody")),
                data: None,
            },
            Some(1) => Step::Refused(ReasonCode::NotAuthorized),
            _ => Step::Continue(Bytes::copy_from_slice(data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What clients do, in [`connection`]'s bytes.
    #[derive(Default)]
    struct Story(Vec<u8>);

    impl Story {
        fn of(flavour: u8) -> Self {
            Self(vec![flavour])
        }

        /// The broker handles all of it before the next step.
        fn step(mut self, slot: u8, what: u8, rest: &[u8]) -> Self {
            self.0.push(what << 2 | slot);
            self.0.extend_from_slice(rest);
            self
        }

        fn raw(self, slot: u8, version: ProtocolVersion, packet: &Packet) -> Self {
            let mut bytes = Vec::new();
            codec::encode(packet, version, &mut bytes).unwrap();
            // In two pieces.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let piece = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()], bytes].concat();
            self.step(slot, 0, &piece(first))
                .step(slot, 0, &piece(second))
                .reads(slot)
        }

        fn reads(self, slot: u8) -> Self {
            self.step(slot, 5, &[255])
        }

        fn lost(self, slot: u8) -> Self {
            self.step(slot, 6, &[1])
        }

        fn time(self, n: u8) -> Self {
            self.step(0, 7, &[n])
        }
    }

    const V5: ProtocolVersion = ProtocolVersion::V5;
    const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;

    fn hello(version: ProtocolVersion, client_id: &'static str) -> Connect {
        let mut connect = Connect::new(version, Utf8::from(client_id));
        connect.clean_start = false;
        if version.is_v5() {
            connect.properties.session_expiry_interval_s = Some(100);
            connect.properties.topic_alias_maximum = Some(2);
            connect.properties.receive_maximum = NonZeroU16::new(2);
        }
        connect
    }

    fn welcome(story: Story, slot: u8, connect: Connect) -> Story {
        let version = connect.version;
        story.raw(slot, version, &Packet::Connect(Box::new(connect)))
    }

    /// Conversations as clients have them, for a fuzzer to begin with.
    fn stories() -> Vec<(&'static str, Story)> {
        let subscribed = |version, filter: u8| {
            let story = welcome(Story::of(0), 0, hello(version, "a"));
            story.raw(0, version, &subscribe([filter | 2 << 3, 0]))
        };
        let publish = |qos: u8, topic: u8, id: u8| {
            let publish = publish([qos | topic << 4, 1 << 6 | id]);
            Packet::Publish(publish)
        };
        let ack = |kind: u8, id: u8| small(kind | id << 3);
        let exchange = |version| {
            let story = welcome(subscribed(version, 1), 1, hello(version, "b"));
            let story = story.raw(1, version, &publish(2, 2, 0));
            let story = story.raw(1, version, &ack(2, 0)).reads(0);
            let story = story.raw(0, version, &ack(1, 0));
            story
                .raw(0, version, &ack(3, 0))
                .raw(0, version, &ack(5, 0))
        };
        let queue = |version| {
            let story = subscribed(version, 0).lost(0);
            let story = welcome(story, 1, hello(version, "b"));
            let story = (0..4).fold(story, |story, id| story.raw(1, version, &publish(1, 0, id)));
            let story = welcome(story.time(20), 0, hello(version, "a")).reads(0);
            story.raw(0, version, &ack(0, 0))
        };
        let will = {
            let mut mortal = hello(V5, "b");
            mortal.will = Some(Will {
                topic: TopicName::new("a").unwrap(),
                payload: Bytes::from_static(b"gone"),
                qos: QoS::AtLeastOnce,
                retain: true,
                properties: WillProperties {
                    will_delay_interval_s: Some(5),
                    ..WillProperties::default()
                },
            });
            let story = welcome(subscribed(V5, 0), 1, mortal.clone());
            let story = welcome(story, 2, mortal).reads(1);
            story.lost(2).time(40).reads(0)
        };
        let shared = {
            let story = welcome(subscribed(V5, 3), 1, hello(V3_1_1, "b"));
            let story = story.raw(1, V3_1_1, &subscribe([3 | 1 << 3, 0]));
            let story = welcome(story, 2, hello(V5, ""));
            let story = (0..4).fold(story, |story, id| story.raw(2, V5, &publish(1, 0, id)));
            story.reads(0).lost(0).time(200).reads(1)
        };
        let later = {
            let story = welcome(subscribed(V5, 1), 1, hello(V3_1_1, "b"));
            let story = story.raw(1, V3_1_1, &publish(1, 3, 0));
            let story = story
                .raw(1, V3_1_1, &publish(1 | 4, 4, 1))
                .time(30)
                .reads(0);
            story
                .raw(0, V5, &subscribe([1 | 128, 0]))
                .raw(0, V5, &subscribe([1, 0]))
        };
        let sign_in = {
            let mut connect = hello(V5, "a");
            connect.properties.authentication_method = Some(Utf8::from("YES"));
            connect.properties.authentication_data = Some(Bytes::from_static(&[2]));
            let story = welcome(Story::of(0b110), 0, connect);
            let story = story.raw(0, V5, &ack(6, 0));
            story.raw(0, V5, &ack(6, 16)).raw(0, V5, &ack(4, 0))
        };
        vec![
            ("qos2_3_1_1", exchange(V3_1_1)),
            ("qos2_5", exchange(V5)),
            ("queue_3_1_1", queue(V3_1_1)),
            ("queue_5", queue(V5)),
            ("will_and_takeover", will),
            ("shared", shared),
            ("retained_and_delayed", later),
            ("sign_in", sign_in),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn whatever_clients_send_the_broker_stays_in_order(script in vec(any::<u8>(), 0..500)) {
            connection(&script);
        }

        #[test]
        fn so_it_does_when_most_of_them_are_welcome(
            flavour in any::<u8>(),
            steps in vec((0_u8..4, 0_u8..8, 0_u8..3, vec(any::<u8>(), 2)), 0..120),
        ) {
            let hello = |slot: u8| [1 << 2 | slot, 2 | slot << 3, 0b0010];
            let mut script = vec![flavour];
            (0..3).for_each(|slot| script.extend(hello(slot)));
            for (slot, what, turns, rest) in steps {
                script.push(turns << 5 | what << 2 | slot);
                let used = match what {
                    0 => 0,
                    1..=3 => 2,
                    _ => 1,
                };
                if what == 0 {
                    script.push(0);
                }
                script.extend(&rest[..used]);
            }
            connection(&script);
        }
    }

    #[test]
    fn the_corpus_of_the_fuzzer_holds_and_has_these_stories() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/connection");
        for (name, Story(script)) in stories() {
            let path = corpus.join(name);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(&path, &script).unwrap();
            }
            assert!(
                std::fs::read(&path).is_ok_and(|kept| kept == script),
                "{} is of another time; UPDATE=1 writes it anew",
                path.display()
            );
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            connection(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
