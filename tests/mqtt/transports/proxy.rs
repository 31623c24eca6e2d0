//! The PROXY protocol in front of everything else.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use weir::broker::{BrokerSettings, CertificateName, ListenerSettings, Network, ProxySettings};
use weir::stats::HandshakeFailure;
use weir_mqtt::ReasonCode;
use weir_test_support::Authority;

use super::tls::{self, Visitor};
use super::{Scene, speaks_mqtt};
use crate::client::{Client, V3_1_1, V5};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.2 56324 1883\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn listener(trusted: &[&str]) -> ListenerSettings {
    let trusted = trusted
        .iter()
        .map(|network| Network::parse(network).unwrap());
    ListenerSettings {
        allow_anonymous: true,
        proxy: Some(ProxySettings {
            trusted: trusted.collect(),
        }),
        ..ListenerSettings::default()
    }
}

/// A client behind a proxy that begins with these bytes.
async fn behind(scene: &Scene, header: &[u8]) -> Client {
    let mut client = scene.broker.open(V5).await;
    client.send_bytes(header).await;
    client
}

/// A header of version 2 for an IPv4 client, with more fields.
fn binary(command: u8, fields: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 192, 0, 2, 2, 0xDC, 0x04, 0x07, 0x5B];
    let len = u16::try_from(addresses.len() + fields.len())
        .unwrap()
        .to_be_bytes();
    [SIGNATURE, &[command, 0x11], &len, &addresses, fields].concat()
}

#[tokio::test]
async fn the_client_is_who_the_proxy_says() {
    let scene = Scene::start(listener(&[])).await;
    for header in [LINE.to_vec(), binary(0x21, b"\x01\x00\x02h2")] {
        let mut client = behind(&scene, &header).await;
        assert_eq!(client.hello("c").await.reason, ReasonCode::Success);
        let peer = scene.guest(&mut client).await.peer.unwrap();
        assert_eq!(peer.to_string(), "203.0.113.9:56324");
    }
    // The proxy itself, and a client that it does not know.
    for header in [binary(0x20, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = behind(&scene, &header).await;
        client.hello("c").await;
        let peer = scene.guest(&mut client).await.peer.unwrap();
        assert!(peer.ip().is_loopback());
    }
}

#[tokio::test]
async fn the_header_stands_before_tls() {
    let authority = Authority::new();
    let settings = ListenerSettings {
        proxy: Some(ProxySettings::default()),
        ..tls::listener(tls::settings(&authority))
    };
    let scene = Scene::start(settings).await;
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    stream.write_all(LINE).await.unwrap();
    let stream = Visitor::of(&authority).over(stream).await.unwrap();
    speaks_mqtt(Client::over(stream, V3_1_1), "c").await;
}

#[tokio::test]
async fn who_sends_no_header_is_closed_and_counted() {
    let settings = BrokerSettings {
        connect_timeout: Duration::from_millis(300),
        ..BrokerSettings::default()
    };
    let scene = Scene::with(settings, listener(&[])).await;
    for header in [
        &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..],
        b"PROXY TCP4 x y 1 2\r\n",
    ] {
        let mut client = behind(&scene, header).await;
        assert!(client.receive_or_end().await.is_none());
    }
    scene.failed(HandshakeFailure::Proxy, 2).await;
    let mut silent = behind(&scene, b"PROXY TCP4 203.0").await;
    assert!(silent.receive_or_end().await.is_none());
    scene.failed(HandshakeFailure::Timeout, 1).await;
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed() {
    let scene = Scene::start(listener(&["192.0.2.0/24"])).await;
    let mut client = behind(&scene, LINE).await;
    assert!(client.receive_or_end().await.is_none());
    scene.failed(HandshakeFailure::Proxy, 1).await;
    let scene = Scene::start(listener(&["192.0.2.0/24", "127.0.0.0/8"])).await;
    let mut client = behind(&scene, LINE).await;
    assert_eq!(client.hello("c").await.reason, ReasonCode::Success);
}

#[tokio::test]
async fn the_name_that_a_trusted_proxy_has_verified_is_the_user_name() {
    // PP2_TYPE_SSL: shown on this connection, verified, and the common name.
    let fields = b"\x20\x00\x0d\x03\x00\x00\x00\x00\x22\x00\x05gw-01";
    for (trusted, expected) in [(&["127.0.0.1"][..], Some("gw-01")), (&[], None)] {
        let settings = ListenerSettings {
            identity: CertificateName::Cn,
            ..listener(trusted)
        };
        let scene = Scene::start(settings).await;
        let mut client = behind(&scene, &binary(0x21, fields)).await;
        assert_eq!(client.hello("c").await.reason, ReasonCode::Success);
        let guest = scene.guest(&mut client).await;
        assert_eq!(guest.username.as_deref(), expected);
        assert_eq!(guest.cert_cn(), expected);
    }
}
