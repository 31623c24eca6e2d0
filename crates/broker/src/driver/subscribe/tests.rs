//! Packets and sessions of very many filters: how much is done in one step, and what there is between two of them.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use weir_mqtt::{Packet, QoS, SubscribeOptions, TopicName, Unsubscribe, codec};

use super::*;
use crate::auth::{Authorizer, PublishVerdict, Subject};
use crate::core::message::Message;
use crate::core::outbox::WriteBatch;
use crate::driver::Shared;
use crate::driver::router::Router;
use crate::driver::router::tests::{admit_when, admitted};
use crate::driver::tests::{parts, shared};
use crate::hooks::{ClientInfo, SessionListener, Subscription};
use crate::settings::BrokerSettings;
use crate::store::Memory;

const FILTERS: usize = 10 * CHANGES_AT_ONCE + 1;

fn filters(from: usize) -> Vec<SubscriptionFilter> {
    (from..from + FILTERS)
        .map(|number| SubscriptionFilter::parse(&format!("t/{number}")).unwrap())
        .collect()
}

fn requests(options: SubscribeOptions) -> Vec<SubscriptionRequest> {
    let all = filters(0).into_iter();
    all.map(|filter| SubscriptionRequest { filter, options })
        .collect()
}

fn subscribe(requests: Vec<SubscriptionRequest>) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(7).unwrap(),
        requests,
        properties: None,
    })
}

fn begin(client: &mut Client, requests: Vec<SubscriptionRequest>) {
    let now = client.shared.clock.now();
    client.handle(now, subscribe(requests), 0).unwrap();
}

/// How the filters of a packet come to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Decoded,
    Encoded,
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
    bytes
}

fn send(client: &mut Client, packet: Packet, way: Way) {
    let now = client.shared.clock.now();
    match way {
        Way::Decoded => client.handle(now, packet, 0).unwrap(),
        Way::Encoded => {
            let bytes = Bytes::from(encoded(&packet));
            let many = codec::decode_head(bytes, ProtocolVersion::V5).unwrap();
            client.handle_many(now, many.unwrap(), 0).unwrap();
        }
    }
}

fn qos1() -> SubscribeOptions {
    SubscribeOptions::with_qos(QoS::AtLeastOnce)
}

fn go_on(client: &mut Client) -> Left {
    client.go_on(client.shared.clock.now()).unwrap()
}

/// How many of the filters lead anywhere.
fn known(shared: &Shared) -> usize {
    let leads = |number: &usize| !shared.routes(&format!("t/{number}")).1.is_empty();
    (0..FILTERS).filter(leads).count()
}

/// How many the session has.
fn had(client: &Client) -> usize {
    client.handle.lock().session.subscriptions_len()
}

/// What has been said to the client by now.
fn said(client: &mut Client) -> Vec<Packet> {
    client.step_done(client.shared.clock.now());
    let mut batch = WriteBatch::default();
    client.take_output(client.shared.clock.now(), &mut batch);
    let mut bytes = Bytes::copy_from_slice(batch.contiguous().unwrap());
    let mut packets = Vec::new();
    while let Ok(Some(len)) = codec::frame_length(&bytes, usize::MAX) {
        packets.push(codec::decode(bytes.split_to(len), ProtocolVersion::V5).unwrap());
    }
    packets
}

/// Is polled from hand to hand; gives what comes of it, and calls `between` after each poll that brings no end.
async fn poll_all<T>(work: impl Future<Output = T>, mut between: impl FnMut()) -> T {
    let mut work = pin!(work);
    loop {
        match futures_util::poll!(&mut work) {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => between(),
        }
    }
}

/// What a broker that starts after a crash now has of the subscriptions of `c`.
fn kept(storage: &Memory) -> usize {
    let mut parts = parts(BrokerSettings::default());
    parts.storage = Some(Arc::new(Memory::of(storage.state())));
    let shared = Shared::new(parts);
    shared.restore().unwrap();
    let session = shared.session("c");
    session.map_or(0, |handle| handle.lock().session.subscriptions_len())
}

fn with_storage(storage: &Memory) -> Arc<Shared> {
    let mut parts = parts(BrokerSettings::default());
    parts.storage = Some(Arc::new(storage.clone()));
    Shared::new(parts)
}

/// `[MQTT-3.8.4-5]` `[MQTT-3.8.4-6]`
#[tokio::test]
async fn a_subscribe_of_many_filters_is_handled_some_at_a_time_and_answered_once_in_their_order() {
    for way in [Way::Decoded, Way::Encoded] {
        let most = FILTERS - CHANGES_AT_ONCE;
        let shared = shared(BrokerSettings {
            max_subscriptions_per_client: most,
            ..BrokerSettings::default()
        });
        let mut client = admitted(&shared, "c", false).await;
        drop(said(&mut client));
        let before = shared.index_changes().latest();
        send(&mut client, subscribe(requests(qos1())), way);
        let (mut steps, mut seen) = (1, 0);
        loop {
            assert!(had(&client) - seen <= CHANGES_AT_ONCE, "in one step");
            seen = had(&client);
            assert_eq!(known(&shared), seen, "the index and the session agree");
            assert!(
                shared.index_changes().latest() - before <= steps,
                "locked once"
            );
            if !client.is_unfinished() {
                break;
            }
            assert_eq!(said(&mut client), [], "nothing is said before the end");
            go_on(&mut client);
            steps += 1;
        }
        let counted = shared.stats.subscriptions.get();
        assert_eq!((seen, counted), (most, most as u64));
        let packets = said(&mut client);
        let [Packet::SubAck(suback)] = &packets[..] else {
            panic!("{packets:?}")
        };
        let mut codes = vec![ReasonCode::GrantedQoS1; most];
        codes.resize(FILTERS, ReasonCode::QuotaExceeded);
        assert_eq!(suback.reasons, codes);
        assert_eq!(suback.packet_id.get(), 7);
    }
}

/// `[MQTT-3.10.4-6]`
#[tokio::test]
async fn an_unsubscribe_of_many_filters_is_handled_some_at_a_time_and_answered_once() {
    for way in [Way::Decoded, Way::Encoded] {
        let shared = shared(BrokerSettings::default());
        let mut client = admitted(&shared, "c", false).await;
        begin(&mut client, requests(qos1()));
        while go_on(&mut client) == Left::Some {}
        drop(said(&mut client));
        let unsubscribe = Unsubscribe {
            packet_id: PacketId::new(8).unwrap(),
            filters: filters(1),
            properties: None,
        };
        send(&mut client, Packet::Unsubscribe(unsubscribe), way);
        let mut left = FILTERS;
        while client.is_unfinished() {
            assert!(left - had(&client) <= CHANGES_AT_ONCE, "in one step");
            left = had(&client);
            assert_eq!(known(&shared), left);
            assert_eq!(said(&mut client), []);
            go_on(&mut client);
        }
        assert_eq!((known(&shared), shared.stats.subscriptions.get()), (1, 1));
        let packets = said(&mut client);
        let [Packet::UnsubAck(unsuback)] = &packets[..] else {
            panic!("{packets:?}")
        };
        let mut codes = vec![ReasonCode::Success; FILTERS - 1];
        codes.push(ReasonCode::NoSubscriptionExisted);
        assert_eq!(unsuback.reasons, codes);
    }
}

#[tokio::test]
async fn a_packet_that_is_wrong_at_its_end_has_done_nothing() {
    let shared = shared(BrokerSettings::default());
    let mut client = admitted(&shared, "c", false).await;
    drop(said(&mut client));
    let mut bytes = encoded(&subscribe(requests(qos1())));
    // The reserved options of the last filter.
    *bytes.last_mut().unwrap() = 0xFF;
    let many = codec::decode_head(bytes.into(), ProtocolVersion::V5).unwrap();
    let now = shared.clock.now();
    let mut result = client
        .handle_many(now, many.unwrap(), 0)
        .map(|()| Left::Some);
    while result == Ok(Left::Some) {
        assert_eq!((had(&client), known(&shared)), (0, 0));
        result = client.go_on(now);
    }
    assert_eq!(result.unwrap_err().say, Some(ReasonCode::MalformedPacket));
    assert!(!client.is_unfinished());
    assert_eq!((had(&client), known(&shared)), (0, 0));
    assert_eq!(said(&mut client), []);
}

/// `[MQTT-3.8.4-1]`
#[tokio::test]
async fn a_crash_leaves_all_of_a_packet_or_nothing() {
    let storage = Memory::default();
    let shared = with_storage(&storage);
    let mut client = admitted(&shared, "c", false).await;
    begin(&mut client, requests(qos1()));
    while client.is_unfinished() {
        // Messages come and are sent meanwhile, and that is kept.
        let topic = TopicName::new("t/0").unwrap();
        let message = Message::new(topic, Bytes::from_static(b"x"), QoS::AtLeastOnce, false);
        let mut router = Router::new(&shared);
        router.publish(shared.clock.now(), message);
        drop(router.finish(shared.clock.now()));
        drop(said(&mut client));
        assert_eq!(kept(&storage), 0);
        go_on(&mut client);
    }
    assert_eq!(kept(&storage), FILTERS);
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::new(8).unwrap(),
        filters: filters(0),
        properties: None,
    };
    let now = shared.clock.now();
    client
        .handle(now, Packet::Unsubscribe(unsubscribe), 0)
        .unwrap();
    while client.is_unfinished() {
        drop(said(&mut client));
        assert_eq!(kept(&storage), FILTERS);
        go_on(&mut client);
    }
    client.step_done(now);
    assert_eq!(kept(&storage), 0);
}

/// Counts what it hears of.
#[derive(Default)]
struct Listener(AtomicUsize);

impl SessionListener for Listener {
    fn subscribed(&self, _: &ClientInfo, _: &Subscription) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn listeners_hear_of_subscriptions_when_all_of_the_packet_is_kept() {
    let listener = Arc::new(Listener::default());
    let mut parts = parts(BrokerSettings::default());
    parts.hooks.sessions = vec![Arc::clone(&listener) as _];
    let shared = Shared::new(parts);
    let mut client = admitted(&shared, "c", false).await;
    let heard = |client: &mut Client| {
        client.step_done(client.shared.clock.now());
        client.poll_gate(&std::task::Context::from_waker(std::task::Waker::noop()));
        listener.0.load(Ordering::Relaxed)
    };
    begin(&mut client, requests(qos1()));
    while client.is_unfinished() {
        assert_eq!(heard(&mut client), 0);
        go_on(&mut client);
    }
    assert_eq!(heard(&mut client), FILTERS);
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing_half_done() {
    let storage = Memory::default();
    let shared = with_storage(&storage);
    let mut client = admitted(&shared, "c", false).await;
    begin(&mut client, requests(qos1()));
    go_on(&mut client);
    assert!(client.is_unfinished());
    drop(client);
    assert_eq!((kept(&storage), known(&shared)), (FILTERS, FILTERS));
    let client = admitted(&shared, "c", false).await;
    assert_eq!(had(&client), FILTERS);
    assert_eq!(shared.stats.subscriptions.get(), FILTERS as u64);
}

/// `[MQTT-3.3.1-9]`
#[tokio::test]
async fn retained_messages_come_behind_the_answer_and_each_topic_has_come_once() {
    let shared = shared(BrokerSettings::default());
    let retain = |number: usize, payload: &'static str| {
        let topic = TopicName::new(&format!("t/{number}")).unwrap();
        let payload = Bytes::from_static(payload.as_bytes());
        let message = Message::new(topic, payload, QoS::AtMostOnce, true);
        let mut router = Router::new(&shared);
        router.publish(shared.clock.now(), message);
        drop(router.finish(shared.clock.now()));
    };
    let last = FILTERS - 1;
    [0, 1, last]
        .into_iter()
        .for_each(|number| retain(number, "old"));
    let mut client = admitted(&shared, "c", false).await;
    drop(said(&mut client));
    begin(&mut client, requests(qos1()));
    // It has subscribed to the first by now, to the last not yet.
    [1, last]
        .into_iter()
        .for_each(|number| retain(number, "new"));
    let mut packets = said(&mut client);
    assert_eq!(packets.len(), 1, "the message itself");
    while go_on(&mut client) == Left::Some {}
    packets.extend(said(&mut client));
    let told: Vec<_> = packets
        .iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => {
                let payload = std::str::from_utf8(&publish.payload).unwrap();
                format!("{} {payload} {}", &*publish.topic, publish.retain)
            }
            packet => packet.name().to_owned(),
        })
        .collect();
    let last = format!("t/{last} new true");
    assert_eq!(told, ["t/1 new false", "SUBACK", "t/0 old true", &last]);
}

/// What may be subscribed to can change, and it is counted how often that is asked.
#[derive(Default)]
struct Rights {
    forbidden: AtomicBool,
    asked: AtomicUsize,
}

impl Authorizer for Rights {
    fn generation(&self) -> u64 {
        0
    }

    fn publish(&self, _: &Subject, _: &str, _: QoS, _: bool) -> PublishVerdict {
        PublishVerdict::Allow
    }

    fn subscribe(
        &self,
        _: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let is_odd = filter.filter.as_str().ends_with(['1', '3', '5', '7', '9']);
        if is_odd && self.forbidden.load(Ordering::Relaxed) {
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(qos)
    }
}

fn with_rights(storage: &Memory) -> (Arc<Shared>, Arc<Rights>) {
    let rights = Arc::new(Rights::default());
    let mut parts = parts(BrokerSettings::default());
    parts.authorizer = Arc::new(Arc::clone(&rights));
    parts.storage = Some(Arc::new(storage.clone()));
    (Shared::new(parts), rights)
}

#[tokio::test]
async fn a_right_that_is_lost_in_the_middle_is_lost_for_what_was_granted_and_for_the_rest() {
    let storage = Memory::default();
    let (shared, rights) = with_rights(&storage);
    let mut client = admitted(&shared, "c", false).await;
    begin(&mut client, requests(qos1()));
    go_on(&mut client);
    rights.forbidden.store(true, Ordering::Relaxed);
    shared.enforce_access();
    while go_on(&mut client) == Left::Some {}
    let even = FILTERS.div_ceil(2);
    assert_eq!(
        [had(&client), known(&shared), kept(&storage)],
        [even, even, even]
    );
    assert_eq!(shared.stats.subscriptions.get(), even as u64);
}

/// `[MQTT-3.10.4-2]`
#[tokio::test]
async fn what_is_retained_is_not_sent_to_who_has_lost_the_right_to_it_in_the_middle() {
    let (shared, rights) = with_rights(&Memory::default());
    for number in [0, 1] {
        let topic = TopicName::new(&format!("t/{number}")).unwrap();
        let message = Message::new(topic, Bytes::from_static(b"x"), QoS::AtMostOnce, true);
        let mut router = Router::new(&shared);
        router.publish(shared.clock.now(), message);
        drop(router.finish(shared.clock.now()));
    }
    let mut client = admitted(&shared, "c", false).await;
    drop(said(&mut client));
    begin(&mut client, requests(qos1()));
    go_on(&mut client);
    rights.forbidden.store(true, Ordering::Relaxed);
    shared.enforce_access();
    while go_on(&mut client) == Left::Some {}
    let topics: Vec<_> = said(&mut client)
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish.topic.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(topics, ["t/0"]);
}

#[tokio::test]
async fn the_many_subscriptions_of_one_who_comes_back_are_looked_at_some_at_a_time() {
    let storage = Memory::default();
    let (shared, rights) = with_rights(&storage);
    let mut client = admitted(&shared, "c", false).await;
    begin(&mut client, requests(qos1()));
    drop(client);
    rights.forbidden.store(true, Ordering::Relaxed);
    let mut before = rights.asked.load(Ordering::Relaxed);
    let (mut has_time, mut polls) = (|| true, 0);
    let client = poll_all(admit_when(&shared, "c", false, &mut has_time), || {
        let asked = rights.asked.load(Ordering::Relaxed);
        // The first look needs no time of its own.
        let bound = CHANGES_AT_ONCE * if polls == 0 { 2 } else { 1 };
        assert!(asked - before <= bound, "in one step");
        (before, polls) = (asked, polls + 1);
    });
    let client = client.await.unwrap();
    assert!(polls >= FILTERS / CHANGES_AT_ONCE - 1);
    let even = FILTERS.div_ceil(2);
    assert_eq!(
        [had(&client), known(&shared), kept(&storage)],
        [even, even, even]
    );
    assert_eq!(shared.stats.subscriptions.get(), even as u64);
    assert_eq!(
        shared.stats.subscriptions_revoked.get(),
        (FILTERS - even) as u64
    );
}

fn reaches(shared: &Arc<Shared>, client_id: &str, number: usize) -> bool {
    let topic = TopicName::new(&format!("t/{number}")).unwrap();
    let message = Message::new(topic, Bytes::from_static(b"x"), QoS::AtLeastOnce, false);
    Router::new(shared).deliver_to(client_id, message)
}

/// `[MQTT-3.1.2-4]`
#[tokio::test]
async fn the_many_filters_that_a_clean_start_ends_leave_the_index_some_at_a_time_and_lead_to_nobody()
 {
    let storage = Memory::default();
    let shared = with_storage(&storage);
    let mut old = admitted(&shared, "c", false).await;
    begin(&mut old, requests(qos1()));
    drop(old);
    let (mut has_time, mut left) = (|| true, FILTERS);
    let new = poll_all(admit_when(&shared, "c", true, &mut has_time), || {
        // The first go with the session itself.
        let bound = CHANGES_AT_ONCE * if left == FILTERS { 2 } else { 1 };
        assert!(left - known(&shared) <= bound, "in one step");
        left = known(&shared);
        assert_eq!(shared.stats.subscriptions.get(), left as u64);
        assert_eq!(kept(&storage), 0, "the session has ended as a whole");
        assert!(!reaches(&shared, "c", FILTERS - 1));
    });
    let mut new = new.await.unwrap();
    assert!(left <= CHANGES_AT_ONCE, "it was done in many steps: {left}");
    assert_eq!((known(&shared), shared.stats.subscriptions.get()), (0, 0));
    begin(&mut new, requests(qos1()));
    while go_on(&mut new) == Left::Some {}
    assert!(reaches(&shared, "c", FILTERS - 1));
    assert_eq!(kept(&storage), FILTERS);
}

#[tokio::test]
async fn what_a_clean_start_leaves_is_swept_out_though_its_client_breaks_off() {
    let shared = shared(BrokerSettings::default());
    let mut old = admitted(&shared, "c", false).await;
    begin(&mut old, requests(qos1()));
    drop(old);
    let mut never = || false;
    {
        let mut new = pin!(admit_when(&shared, "c", true, &mut never));
        assert!(futures_util::poll!(&mut new).is_pending());
    }
    assert_eq!(known(&shared), FILTERS - CHANGES_AT_ONCE);
    while shared.sweep_some() == Left::Some {}
    assert_eq!((known(&shared), shared.stats.subscriptions.get()), (0, 0));
}

/// `[MQTT-3.1.2-23]`
#[tokio::test]
async fn the_many_filters_of_a_session_that_expires_leave_the_index_some_at_a_time() {
    let storage = Memory::default();
    let shared = with_storage(&storage);
    let mut old = admitted(&shared, "c", false).await;
    begin(&mut old, requests(qos1()));
    drop(old);
    let before = shared.index_changes().latest();
    shared.do_what_is_due(shared.clock.now() + 1_000_000);
    assert_eq!(shared.index_changes().latest() - before, 1, "in one step");
    assert_eq!(kept(&storage), 0, "the session has ended as a whole");
    assert_eq!(shared.stats.sessions.get(), 0);
    let mut left = FILTERS - CHANGES_AT_ONCE;
    assert_eq!(known(&shared), left);
    assert!(!reaches(&shared, "c", 0) && !reaches(&shared, "c", FILTERS - 1));
    // The next session has the same filters before those of the last one are gone.
    let mut new = admitted(&shared, "c", false).await;
    begin(&mut new, requests(qos1()));
    while go_on(&mut new) == Left::Some {}
    while left > 0 {
        let before = shared.index_changes().latest();
        shared.sweep_some();
        assert_eq!(shared.index_changes().latest() - before, 1);
        left = left.saturating_sub(CHANGES_AT_ONCE);
        assert_eq!(shared.stats.subscriptions.get(), (FILTERS + left) as u64);
        assert!((0..FILTERS).all(|number| reaches(&shared, "c", number)));
    }
    assert_eq!(shared.sweep_some(), Left::Nothing);
    assert_eq!(kept(&storage), FILTERS);
}
