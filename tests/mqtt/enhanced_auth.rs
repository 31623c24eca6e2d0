//! Enhanced authentication: SCRAM-SHA-256 at CONNECT and again later, by a client written from the RFC.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use weir::BrokerBuilder;
use weir::auth::banned::Banned;
use weir::auth::scram::{Credentials, METHOD, ScramFile};
use weir::broker::Broker;
use weir::problem::Source;
use weir_mqtt::properties::AuthProperties;
use weir_mqtt::{Auth, ConnAck, Connect, Packet, PubAck, ReasonCode, Utf8};

use crate::client::{Client, TestBroker, V3_1_1, V5, id, publish};

async fn broker() -> TestBroker {
    TestBroker::built(builder()).await
}

fn builder() -> BrokerBuilder {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("ann:{}\n", Credentials::new("pencil").unwrap().to_line());
    std::fs::write(file.path(), line).unwrap();
    let scram = ScramFile::open(file.path()).unwrap();
    Broker::builder().mechanism(Arc::new(scram))
}

fn sign(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// The client's side of one exchange.
struct Scram {
    user: &'static str,
    password: &'static str,
    server_signature: String,
}

impl Scram {
    fn new(user: &'static str, password: &'static str) -> Self {
        Self {
            user,
            password,
            server_signature: String::new(),
        }
    }

    fn first(&self) -> Bytes {
        format!("n,,n={},r=fyko+d2lbbFgONRv9qkxdawL", self.user).into()
    }

    fn answer(&mut self, challenge: &[u8]) -> Bytes {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let field = |name: &str| {
            let found = challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name));
            found.unwrap()
        };
        let salt = BASE64.decode(field("s=")).unwrap();
        let iterations = field("i=").parse().unwrap();
        let salted =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(self.password.as_bytes(), &salt, iterations);
        let last = format!("c=biws,r={}", field("r="));
        let first = self.first();
        let bare = std::str::from_utf8(&first[3..]).unwrap();
        let said = format!("{bare},{challenge},{last}");
        let client_key = sign(&salted, b"Client Key");
        let signature = sign(&Sha256::digest(client_key), said.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = sign(&salted, b"Server Key");
        self.server_signature = format!("v={}", BASE64.encode(sign(&server_key, said.as_bytes())));
        format!("{last},p={}", BASE64.encode(proof)).into()
    }
}

fn auth(reason: ReasonCode, method: &'static str, data: Bytes) -> Packet {
    Packet::Auth(Auth {
        reason,
        properties: Some(Box::new(AuthProperties {
            authentication_method: Some(Utf8::from(method)),
            authentication_data: Some(data),
            ..AuthProperties::default()
        })),
    })
}

fn connect(method: &'static str, data: Bytes) -> Connect {
    let mut connect = Connect::new(V5, Utf8::from("a"));
    connect.properties.authentication_method = Some(Utf8::from(method));
    connect.properties.authentication_data = Some(data);
    connect
}

async fn receive_auth(client: &mut Client) -> (ReasonCode, Bytes) {
    let Packet::Auth(Auth {
        reason,
        properties: Some(properties),
    }) = client.receive().await
    else {
        panic!("expected AUTH")
    };
    assert_eq!(properties.authentication_method, Some(Utf8::from(METHOD)));
    (reason, properties.authentication_data.unwrap())
}

async fn receive_connack(client: &mut Client) -> ConnAck {
    let Packet::ConnAck(connack) = client.receive().await else {
        panic!("expected CONNACK")
    };
    *connack
}

/// Signs in up to CONNACK.
async fn sign_in(broker: &TestBroker, scram: &mut Scram) -> (Client, ConnAck) {
    let mut client = broker.open(V5).await;
    let connect = connect(METHOD, scram.first());
    client.send(Packet::Connect(Box::new(connect))).await;
    let (reason, challenge) = receive_auth(&mut client).await;
    assert_eq!(reason, ReasonCode::ContinueAuthentication);
    let answer = scram.answer(&challenge);
    client
        .send(auth(ReasonCode::ContinueAuthentication, METHOD, answer))
        .await;
    let connack = receive_connack(&mut client).await;
    (client, connack)
}

/// [MQTT-3.2.0-1] [MQTT-4.12.0-2] [MQTT-4.12.0-5]
#[tokio::test]
async fn the_right_password_is_welcomed_and_the_server_shows_that_it_knows_it() {
    let broker = broker().await;
    let mut scram = Scram::new("ann", "pencil");
    let (client, connack) = sign_in(&broker, &mut scram).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    let properties = connack.properties;
    assert_eq!(properties.authentication_method, Some(Utf8::from(METHOD)));
    let data = properties.authentication_data.unwrap();
    assert_eq!(data, scram.server_signature);
    client.disconnect().await;
}

#[tokio::test]
async fn a_password_may_be_typed_in_another_way_than_when_it_was_set() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let credentials = Credentials::new("na\u{EF}ve\u{A0}cl\u{E9}").unwrap();
    std::fs::write(file.path(), format!("zo\u{EB}:{}\n", credentials.to_line())).unwrap();
    let scram = ScramFile::open(file.path()).unwrap();
    let broker = TestBroker::built(Broker::builder().mechanism(Arc::new(scram))).await;
    // A client prepares the password; whether the user name, too, is its affair.
    for user in ["zo\u{EB}", "zoe\u{308}"] {
        let mut scram = Scram::new(user, "na\u{EF}ve cl\u{E9}");
        let (client, connack) = sign_in(&broker, &mut scram).await;
        assert_eq!(connack.reason, ReasonCode::Success);
        assert!(broker.broker.client("a").unwrap().username == Some(Utf8::from("zo\u{EB}")));
        client.disconnect().await;
    }
}

/// [MQTT-4.12.0-4] [MQTT-3.1.4-2]
#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let broker = broker().await;
    for (user, password) in [("ann", "pencils"), ("bob", "pencil")] {
        let (mut client, connack) = sign_in(&broker, &mut Scram::new(user, password)).await;
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        assert_eq!(client.receive_or_end().await, None);
    }
    let refused: u64 = broker
        .broker
        .stats()
        .auth_failures
        .nonzero()
        .map(|(_, n)| n)
        .sum();
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn who_may_not_come_in_is_not_even_asked_for_a_proof() {
    let banned = Banned::parse(&Source::new("banned", "client a\n")).unwrap();
    let banned = Arc::new(ArcSwap::from_pointee(banned));
    let broker = TestBroker::built(builder().banned(banned)).await;
    let first = Scram::new("ann", "pencil").first();
    let (mut client, connack) = broker.connect_with(connect(METHOD, first)).await;
    assert_eq!(connack.reason, ReasonCode::Banned);
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn a_method_that_is_not_known_is_refused() {
    // [MQTT-4.12.0-1]
    let broker = broker().await;
    let (mut client, connack) = broker.connect_with(connect("KERBEROS", Bytes::new())).await;
    assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn before_connack_nothing_but_auth_of_the_same_method_goes_on() {
    let go_on = ReasonCode::ContinueAuthentication;
    for (packet, reason) in [
        // [MQTT-3.1.2-30]
        (Packet::PingReq, ReasonCode::ProtocolError),
        (
            Packet::Publish(publish("t", "x", 0, 0)),
            ReasonCode::ProtocolError,
        ),
        (
            auth(go_on, "PLAIN", Bytes::new()),
            ReasonCode::BadAuthenticationMethod,
        ),
        (
            auth(ReasonCode::ReAuthenticate, METHOD, Bytes::new()),
            ReasonCode::ProtocolError,
        ),
        (auth(go_on, METHOD, Bytes::new()), ReasonCode::NotAuthorized),
    ] {
        let broker = broker().await;
        let mut client = broker.open(V5).await;
        let first = Scram::new("ann", "pencil").first();
        client
            .send(Packet::Connect(Box::new(connect(METHOD, first))))
            .await;
        receive_auth(&mut client).await;
        client.send(packet).await;
        assert_eq!(receive_connack(&mut client).await.reason, reason);
        assert_eq!(client.receive_or_end().await, None);
        assert_eq!(broker.broker.stats().sessions.get(), 0);
    }
}

#[tokio::test]
async fn auth_is_never_larger_than_the_client_takes_and_says_no_more_than_it_must() {
    // [MQTT-3.1.2-24] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    let broker = broker().await;
    let scram = Scram::new("ann", "pencil");
    let sized = |size| {
        let mut connect = connect(METHOD, scram.first());
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(size);
        Packet::Connect(Box::new(connect))
    };
    let mut client = broker.open(V5).await;
    client.send(sized(1000)).await;
    let head = client.receive_bytes(2).await;
    let full = 2 + u32::from(head[1]);
    assert!(head[1] < 128, "the length is one byte");
    client.receive_bytes(usize::from(head[1])).await;
    for size in [full - 1, full] {
        let mut client = broker.open(V5).await;
        client.send(sized(size)).await;
        if size < full {
            assert_eq!(client.receive_or_end().await, None);
            continue;
        }
        let Packet::Auth(auth) = client.receive().await else {
            panic!("expected AUTH")
        };
        let properties = auth.properties.unwrap();
        assert_eq!(properties.reason_string, None);
        assert_eq!(properties.user_properties, []);
    }
}

#[tokio::test]
async fn an_exchange_has_no_longer_than_connect_may_take() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let scram = ScramFile::open(file.path()).unwrap();
    let broker = TestBroker::built(
        Broker::builder()
            .settings(weir::broker::BrokerSettings {
                connect_timeout: std::time::Duration::from_millis(100),
                ..Default::default()
            })
            .mechanism(Arc::new(scram)),
    )
    .await;
    let mut client = broker.open(V5).await;
    let first = Scram::new("ann", "pencil").first();
    client
        .send(Packet::Connect(Box::new(connect(METHOD, first))))
        .await;
    receive_auth(&mut client).await;
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn a_connected_client_signs_in_again_while_its_messages_go_on() {
    // [MQTT-4.12.1-1]
    let broker = broker().await;
    let (mut client, _) = sign_in(&broker, &mut Scram::new("ann", "pencil")).await;
    for _ in 0..2 {
        let mut scram = Scram::new("ann", "pencil");
        client
            .send(auth(ReasonCode::ReAuthenticate, METHOD, scram.first()))
            .await;
        let (reason, challenge) = receive_auth(&mut client).await;
        assert_eq!(reason, ReasonCode::ContinueAuthentication);
        client.send(Packet::Publish(publish("t", "x", 1, 7))).await;
        assert!(matches!(
            client.receive().await,
            Packet::PubAck(PubAck { packet_id, .. }) if packet_id == id(7)
        ));
        let answer = scram.answer(&challenge);
        client
            .send(auth(ReasonCode::ContinueAuthentication, METHOD, answer))
            .await;
        let (reason, data) = receive_auth(&mut client).await;
        assert_eq!(reason, ReasonCode::Success);
        assert_eq!(data, scram.server_signature);
    }
    client.disconnect().await;
}

#[tokio::test]
async fn a_client_that_fails_to_sign_in_again_is_sent_away() {
    // [MQTT-4.12.1-2]
    let broker = broker().await;
    let (mut client, _) = sign_in(&broker, &mut Scram::new("ann", "pencil")).await;
    let mut scram = Scram::new("ann", "wrong");
    client
        .send(auth(ReasonCode::ReAuthenticate, METHOD, scram.first()))
        .await;
    // [MQTT-4.12.0-2]
    let (reason, challenge) = receive_auth(&mut client).await;
    assert_eq!(reason, ReasonCode::ContinueAuthentication);
    let answer = scram.answer(&challenge);
    client
        .send(auth(ReasonCode::ContinueAuthentication, METHOD, answer))
        .await;
    client.expect_disconnect(ReasonCode::NotAuthorized).await;
}

#[tokio::test]
async fn auth_that_does_not_fit_the_connection_ends_it() {
    let broker = broker().await;
    for (packet, reason) in [
        (
            auth(ReasonCode::ReAuthenticate, "PLAIN", Bytes::new()),
            ReasonCode::BadAuthenticationMethod,
        ),
        (
            auth(ReasonCode::ContinueAuthentication, METHOD, Bytes::new()),
            ReasonCode::ProtocolError,
        ),
        (
            auth(ReasonCode::Success, METHOD, Bytes::new()),
            ReasonCode::ProtocolError,
        ),
    ] {
        let (mut client, _) = sign_in(&broker, &mut Scram::new("ann", "pencil")).await;
        client.send(packet).await;
        client.expect_disconnect(reason).await;
    }
    // [MQTT-4.12.0-7] Without a method in CONNECT.
    let mut client = broker.connect(V5, "plain").await;
    client
        .send(auth(ReasonCode::ReAuthenticate, METHOD, Bytes::new()))
        .await;
    client.expect_disconnect(ReasonCode::ProtocolError).await;
    // Before MQTT 5 the packet type is reserved.
    let mut client = broker.connect(V3_1_1, "old").await;
    client.send_bytes(b"\xf0\x00").await;
    client.expect_disconnect(ReasonCode::MalformedPacket).await;
}
