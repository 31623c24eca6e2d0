//! Who may connect, and what a client may do: each refusal as the client sees it, and its count.

use std::sync::Arc;

use bytes::Bytes;

use weir::auth::access_list::{AccessList, DenyAction};
use weir::auth::acl::Acl;
use weir::auth::banned::Banned;
use weir::auth::{Authenticator, ConnectRequest, Decision, Identity};
use weir::broker::{Broker, BrokerSettings};
use weir::core::flapping::FlappingLimits;
use weir::core::limits::{ClientLimits, LimitSettings, WhenExceeded};
use weir::core::token_bucket::Rate;
use weir::problem::Source;
use weir::stats::{CloseReason, DropReason};
use weir_mqtt::properties::WillProperties;
use weir_mqtt::{Connect, Packet, ProtocolVersion, QoS, ReasonCode, TopicName, Utf8, Will};

use crate::client::{ALL, Client, TestBroker, V3_1, V3_1_1, V5, persistent, publish, until};

fn acl(text: &str) -> Acl {
    Acl::parse(&Source::new("acl", text)).unwrap()
}

fn list(text: &str, deny: DenyAction) -> Arc<AccessList> {
    Arc::new(AccessList::new(Some(acl(text)), None, deny))
}

async fn broker_with(list: &Arc<AccessList>) -> TestBroker {
    TestBroker::built(Broker::builder().authorizer(Arc::clone(list))).await
}

async fn limited(limits: LimitSettings) -> TestBroker {
    TestBroker::with(BrokerSettings {
        limits,
        ..BrokerSettings::default()
    })
    .await
}

async fn refused(broker: &TestBroker, connect: Connect) -> ReasonCode {
    let (mut client, connack) = broker.connect_with(connect).await;
    assert_eq!(client.receive_or_end().await, None, "refused means closed");
    connack.reason
}

fn connect(version: ProtocolVersion, client_id: &str) -> Connect {
    Connect::new(version, Utf8::new(client_id).unwrap())
}

/// What an older version can say of a refusal at CONNECT.
fn said(version: ProtocolVersion, reason: ReasonCode, before_v5: ReasonCode) -> ReasonCode {
    if version.is_v5() { reason } else { before_v5 }
}

#[tokio::test]
async fn a_forbidden_publish_reaches_nobody_and_is_acknowledged() {
    let list = list("allow publish up/%c\nallow subscribe #", DenyAction::Ignore);
    let broker = broker_with(&list).await;
    let mut watcher = broker.connect(V5, "watcher").await;
    watcher.subscribe("#", 0).await;
    for version in ALL {
        let before = broker.broker.stats().drops(DropReason::NotAuthorized);
        let mut client = broker.connect(version, "c").await;
        for level in 0..3 {
            let reason = client.publish(publish("down/c", "no", level, 1)).await;
            let told = version.is_v5() && level > 0;
            let expected = if told {
                ReasonCode::NotAuthorized
            } else {
                ReasonCode::Success
            };
            assert_eq!(reason, expected, "{version:?} {level}");
            // And again, over the verdict that is remembered now.
            client.publish(publish("down/c", "no", level, 2)).await;
            client.publish(publish("up/c", "yes", level, 3)).await;
            assert_eq!(&watcher.receive_publish().await.payload[..], b"yes");
        }
        let dropped = broker.broker.stats().drops(DropReason::NotAuthorized) - before;
        assert_eq!(dropped, 6);
        client.disconnect().await;
    }
    watcher.expect_nothing().await;
}

#[tokio::test]
async fn a_forbidden_publish_can_end_the_connection() {
    let broker = broker_with(&list("allow publish up/#", DenyAction::Disconnect)).await;
    for version in ALL {
        for level in 0..3 {
            let mut client = broker.connect(version, "c").await;
            client
                .send(Packet::Publish(publish("x", "", level, 1)))
                .await;
            client.expect_disconnect(ReasonCode::NotAuthorized).await;
        }
    }
    let ended = &broker.broker.stats().disconnects[CloseReason::NotAuthorized as usize];
    assert_eq!(ended.get(), 9);
}

#[tokio::test]
async fn a_forbidden_filter_is_refused_alone() {
    let broker = broker_with(&list(
        "allow subscribe a/+\nallow publish #",
        DenyAction::Ignore,
    ))
    .await;
    for version in ALL {
        let mut client = broker.connect(version, "c").await;
        let no = match version {
            V5 => ReasonCode::NotAuthorized,
            V3_1_1 => ReasonCode::UnspecifiedError,
            // MQTT 3.1 has no failure in SUBACK.
            V3_1 => ReasonCode::GrantedQoS1,
        };
        for filter in ["a/#", "#", "b", "$share/g/a/#"] {
            assert_eq!(
                client.subscribe(filter, 1).await,
                [no],
                "{version:?} {filter}"
            );
        }
        for filter in ["a/+", "a/b", "$share/g/a/+"] {
            let granted = client.subscribe(filter, 1).await;
            assert_eq!(granted, [ReasonCode::GrantedQoS1], "{version:?} {filter}");
        }
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_client_id_is_no_wildcard() {
    let broker = broker_with(&list("allow all dev/%c/#", DenyAction::Ignore)).await;
    for name in ["+", "#", "a/b", "dev/#"] {
        let mut client = broker.connect(V5, name).await;
        for filter in ["dev/+/up", "dev/#", "dev/a/up", "dev/a/b/up"] {
            let answer = client.subscribe(filter, 0).await;
            assert_eq!(answer, [ReasonCode::NotAuthorized], "{name} {filter}");
        }
        let reason = client.publish(publish("dev/a/b", "", 1, 1)).await;
        assert_eq!(reason, ReasonCode::NotAuthorized, "{name}");
        client.disconnect().await;
    }
    let mut honest = broker.connect(V5, "a").await;
    assert_eq!(honest.subscribe("dev/a/#", 0).await, [ReasonCode::Success]);
}

#[tokio::test]
async fn a_will_that_may_not_be_published_is_refused_at_connect_or_dropped_when_it_is_due() {
    let list = list(
        "allow publish will/%c\nallow subscribe #",
        DenyAction::Ignore,
    );
    let broker = broker_with(&list).await;
    for version in ALL {
        let with_will = |topic: &str| {
            let mut connect = connect(version, "c");
            connect.will = Some(Will {
                topic: TopicName::new(topic).unwrap(),
                payload: "gone".into(),
                qos: QoS::AtMostOnce,
                retain: false,
                properties: WillProperties::default(),
            });
            connect
        };
        let no = said(
            version,
            ReasonCode::NotAuthorized,
            ReasonCode::NotAuthorized,
        );
        assert_eq!(refused(&broker, with_will("will/d")).await, no);
        list.replace(acl("allow publish will/%c\nallow subscribe #"));
        let mut watcher = broker.connect(V5, "watcher").await;
        watcher.subscribe("#", 0).await;
        let (client, _) = broker.connect_with(with_will("will/c")).await;
        client.vanish();
        assert_eq!(&watcher.receive_publish().await.topic[..], "will/c");
        let (mut client, _) = broker.connect_with(with_will("will/c")).await;
        client.expect_nothing().await;
        list.replace(acl("allow subscribe #"));
        let before = broker.broker.stats().drops(DropReason::NotAuthorized);
        client.vanish();
        until(|| broker.broker.stats().drops(DropReason::NotAuthorized) == before + 1).await;
        watcher.expect_nothing().await;
        list.replace(acl("allow publish will/%c\nallow subscribe #"));
    }
}

#[tokio::test]
async fn another_list_counts_at_once_for_publishes_and_ends_subscriptions() {
    let list = list("allow all #", DenyAction::Ignore);
    let broker = broker_with(&list).await;
    let mut one = broker.connect(V5, "one").await;
    one.subscribe("a/#", 0).await;
    one.subscribe("b", 0).await;
    let (mut absent, _) = broker.connect_with(persistent(V5, "absent")).await;
    absent.subscribe("a/1", 1).await;
    absent.vanish();
    let mut two = broker.connect(V5, "two").await;
    assert_eq!(
        two.publish(publish("a/1", "x", 1, 1)).await,
        ReasonCode::Success
    );
    assert_eq!(&one.receive_publish().await.payload[..], b"x");
    list.replace(acl("allow all b client one\nallow publish #"));
    broker.broker.enforce_access();
    let reason = two.publish(publish("a/1", "y", 1, 2)).await;
    assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    one.expect_nothing().await;
    two.publish(publish("b", "z", 0, 0)).await;
    assert_eq!(&one.receive_publish().await.payload[..], b"z");
    assert_eq!(broker.broker.stats().subscriptions_revoked.get(), 2);
    assert_eq!(broker.broker.stats().subscriptions.get(), 1);
}

#[tokio::test]
async fn a_session_that_is_resumed_keeps_only_what_its_client_may_have_now() {
    let list = list("allow all #", DenyAction::Ignore);
    let broker = broker_with(&list).await;
    let (mut client, _) = broker.connect_with(persistent(V5, "c")).await;
    client.subscribe("a", 0).await;
    client.subscribe("b", 0).await;
    client.vanish();
    // Nobody looks at the sessions.
    list.replace(acl("allow all b\nallow publish #"));
    let (mut client, connack) = broker.connect_with(persistent(V5, "c")).await;
    assert!(connack.session_present);
    for topic in ["a", "b"] {
        client
            .send(Packet::Publish(publish(topic, topic, 0, 0)))
            .await;
    }
    assert_eq!(&client.receive_publish().await.topic[..], "b");
    client.expect_nothing().await;
}

/// Admits everyone with what it was told to say of them.
struct Says(Identity);

impl Authenticator for Says {
    fn authenticate<'a>(
        &'a self,
        _: &'a ConnectRequest,
    ) -> futures_util::future::BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow(self.0.clone())))
    }
}

#[tokio::test]
async fn what_the_authenticator_allows_comes_before_the_list() {
    let identity = Identity {
        acl: Some(Arc::new(acl("allow publish own/#"))),
        ..Identity::user(Utf8::from("ann"))
    };
    let builder = Broker::builder()
        .authenticator(Says(identity))
        .authorizer(list("allow publish all/%u\ndeny all #", DenyAction::Ignore));
    let broker = TestBroker::built(builder).await;
    let mut client = broker.connect(V5, "c").await;
    for (topic, reason) in [
        ("own/x", ReasonCode::NoMatchingSubscribers),
        ("all/ann", ReasonCode::NoMatchingSubscribers),
        ("all/bob", ReasonCode::NotAuthorized),
    ] {
        assert_eq!(
            client.publish(publish(topic, "", 1, 1)).await,
            reason,
            "{topic}"
        );
    }
}

#[tokio::test]
async fn a_connection_ends_when_its_permission_does() {
    for version in ALL {
        // Over already, when the client is hardly in: nothing has to be waited for.
        let identity = Identity {
            expires_at_s: Some(1),
            ..Identity::default()
        };
        let broker = TestBroker::built(Broker::builder().authenticator(Says(identity))).await;
        let client = broker.connect(version, "c").await;
        client
            .expect_disconnect(ReasonCode::MaximumConnectTime)
            .await;
        let identity = Identity {
            expires_at_s: Some(i64::MAX),
            ..Identity::default()
        };
        let broker = TestBroker::built(Broker::builder().authenticator(Says(identity))).await;
        let mut client = broker.connect(version, "c").await;
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn the_banned_are_turned_away_and_put_out() {
    let banned: Arc<arc_swap::ArcSwap<Banned>> = Arc::default();
    let broker = TestBroker::built(Broker::builder().banned(Arc::clone(&banned))).await;
    for version in ALL {
        banned.store(Arc::default());
        let inside = broker.connect(version, "bad").await;
        let list = Banned::parse(&Source::new("banned", "client bad\nuser mallory")).unwrap();
        banned.store(Arc::new(list));
        let no = said(version, ReasonCode::Banned, ReasonCode::NotAuthorized);
        broker.broker.enforce_access();
        inside
            .expect_disconnect(ReasonCode::AdministrativeAction)
            .await;
        assert_eq!(refused(&broker, connect(version, "bad")).await, no);
        let mut mallory = connect(version, "good");
        mallory.username = Some(Utf8::from("mallory"));
        assert_eq!(refused(&broker, mallory).await, no);
        broker.connect(version, "good").await.disconnect().await;
    }
    let refused = broker
        .broker
        .stats()
        .connects_refused
        .of(ReasonCode::Banned.as_u8());
    assert_eq!(refused.get(), 6);
}

#[tokio::test]
async fn an_address_is_banned_whatever_its_names() {
    let banned = Banned::parse(&Source::new("banned", "address 127.0.0.0/8")).unwrap();
    let banned = Arc::new(arc_swap::ArcSwap::from_pointee(banned));
    let broker = TestBroker::built(Broker::builder().banned(banned)).await;
    assert_eq!(refused(&broker, connect(V5, "c")).await, ReasonCode::Banned);
}

#[tokio::test]
async fn who_comes_and_goes_all_the_time_stays_out_for_a_while() {
    let broker = limited(LimitSettings {
        flapping: Some(FlappingLimits {
            disconnects: 3,
            within_ms: 60_000,
            ban_ms: 60_000,
        }),
        ..LimitSettings::default()
    })
    .await;
    for version in ALL {
        let name = format!("flaps-{version:?}");
        for _ in 0..3 {
            broker.connect(version, &name).await.disconnect().await;
        }
        until(|| broker.broker.stats().sessions_connected.get() == 0).await;
        let no = said(version, ReasonCode::Banned, ReasonCode::NotAuthorized);
        assert_eq!(refused(&broker, connect(version, &name)).await, no);
        broker.connect(version, "calm").await.vanish();
        until(|| broker.broker.stats().sessions_connected.get() == 0).await;
        // Its own third time comes with the third version; it is not asked again.
    }
}

#[tokio::test]
async fn too_many_connects_are_turned_away() {
    let rate = Rate {
        per_second: 1,
        burst: 3,
    };
    for (connects, connects_per_address) in [(Some(rate), None), (None, Some(rate))] {
        for version in ALL {
            let broker = limited(LimitSettings {
                connects,
                connects_per_address,
                ..LimitSettings::default()
            })
            .await;
            let mut guests = Vec::new();
            let mut answers = Vec::new();
            for number in 0..8 {
                let (guest, connack) = broker
                    .connect_with(connect(version, &format!("c{number}")))
                    .await;
                guests.push(guest);
                answers.push(connack.reason);
            }
            assert_eq!(answers[..3], [ReasonCode::Success; 3]);
            let no = said(
                version,
                ReasonCode::ConnectionRateExceeded,
                ReasonCode::ServerUnavailable,
            );
            // A slow machine may let one more in, a second later.
            assert!(answers.contains(&no), "{answers:?}");
            assert!(
                answers
                    .iter()
                    .all(|answer| [no, ReasonCode::Success].contains(answer))
            );
        }
    }
}

/// Sends so many messages without waiting for anything.
async fn flood(client: &mut Client, messages: usize, payload: &str) {
    let mut bytes = Vec::new();
    for _ in 0..messages {
        let packet = Packet::Publish(publish("t", payload, 0, 0));
        weir_mqtt::codec::encode(&packet, client.version, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes).await;
}

#[tokio::test]
async fn a_client_that_sends_too_fast_waits_and_loses_nothing() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    for client in [
        ClientLimits {
            messages: rate(200, 10),
            ..ClientLimits::default()
        },
        ClientLimits {
            bytes: rate(20_000, 1000),
            ..ClientLimits::default()
        },
    ] {
        let broker = limited(LimitSettings {
            client,
            ..LimitSettings::default()
        })
        .await;
        let mut watcher = broker.connect(V5, "watcher").await;
        watcher.subscribe("t", 0).await;
        let mut fast = broker.connect(V3_1_1, "fast").await;
        flood(&mut fast, 40, &"x".repeat(90)).await;
        for _ in 0..40 {
            watcher.receive_publish().await;
        }
        assert!(broker.broker.stats().throttled.get() > 0);
        fast.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_client_that_sends_too_fast_can_be_disconnected() {
    for version in ALL {
        let broker = limited(LimitSettings {
            client: ClientLimits {
                messages: Some(Rate {
                    per_second: 1,
                    burst: 5,
                }),
                when_exceeded: WhenExceeded::Disconnect,
                ..ClientLimits::default()
            },
            ..LimitSettings::default()
        })
        .await;
        let mut client = broker.connect(version, "fast").await;
        flood(&mut client, 20, "x").await;
        client
            .expect_disconnect(ReasonCode::MessageRateTooHigh)
            .await;
    }
}

#[tokio::test]
async fn a_payload_above_the_limit_is_refused_and_the_client_stays() {
    let broker = limited(LimitSettings {
        client: ClientLimits {
            max_payload: Some(4),
            ..ClientLimits::default()
        },
        ..LimitSettings::default()
    })
    .await;
    let mut watcher = broker.connect(V5, "watcher").await;
    watcher.subscribe("t", 0).await;
    for version in ALL {
        let mut client = broker.connect(version, "c").await;
        for level in 0..3 {
            let reason = client.publish(publish("t", "12345", level, 1)).await;
            let told = version.is_v5() && level > 0;
            let expected = if told {
                ReasonCode::QuotaExceeded
            } else {
                ReasonCode::Success
            };
            assert_eq!(reason, expected);
            client.publish(publish("t", "1234", level, 2)).await;
            assert_eq!(&watcher.receive_publish().await.payload[..], b"1234");
        }
        client.disconnect().await;
    }
    assert_eq!(broker.broker.stats().drops(DropReason::PayloadTooLarge), 9);
}

#[tokio::test]
async fn a_will_above_the_payload_limit_refuses_the_connect_for_good() {
    let broker = limited(LimitSettings {
        client: ClientLimits {
            max_payload: Some(4),
            ..ClientLimits::default()
        },
        ..LimitSettings::default()
    })
    .await;
    for version in ALL {
        for (payload, refused) in [(&b"1234"[..], false), (b"12345", true)] {
            let mut connect = Connect::new(version, Utf8::from("c"));
            connect.will = Some(Will {
                topic: TopicName::new("gone").unwrap(),
                payload: Bytes::from_static(payload),
                qos: QoS::AtMostOnce,
                retain: false,
                properties: WillProperties::default(),
            });
            let (_client, connack) = broker.connect_with(connect).await;
            // Server unavailable would invite older clients to try again and again.
            let told = match (refused, version.is_v5()) {
                (false, _) => ReasonCode::Success,
                (true, false) => ReasonCode::NotAuthorized,
                (true, true) => ReasonCode::QuotaExceeded,
            };
            assert_eq!(connack.reason, told);
        }
    }
}

#[tokio::test]
async fn those_who_are_behind_are_told_of_the_slowest_first() {
    let broker = TestBroker::start().await;
    let mut sender = broker.connect(V5, "sender").await;
    for name in ["first", "second"] {
        let (mut absent, _) = broker.connect_with(persistent(V5, name)).await;
        absent.subscribe("t", 1).await;
        absent.vanish();
        until(|| broker.broker.stats().sessions_connected.get() == 1).await;
        sender.publish(publish("t", "x", 1, 1)).await;
    }
    let slow = broker.broker.slow_subscribers(10);
    let told: Vec<_> = slow
        .iter()
        .map(|one| (&*one.client_id, one.connected, one.queued))
        .collect();
    assert_eq!(told, [("first", false, 2), ("second", false, 1)]);
    assert_eq!(broker.broker.slow_subscribers(1).len(), 1);
}
