//! TLS, one- and two-way.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir::BrokerBuilder;
use weir::auth::access_list::{AccessList, DenyAction};
use weir::auth::acl::Acl;
use weir::broker::{Broker, BrokerSettings, ClientIdentity};
use weir::broker::{
    CertificateName, ClientAuth, ListenerSettings, Pem, ServerCertificate, Tls, TlsSettings,
    Transport,
};
use weir::problem::Source;
use weir::stats::HandshakeFailure;
use weir_mqtt::{Packet, ReasonCode};
use weir_test_support::Authority;

use super::{Scene, speaks_mqtt};
use crate::client::{ALL, Client, TestBroker, V5, publish};

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The PEM files of `name`.
fn certificate(authority: &Authority, name: Option<&str>, file: &str) -> ServerCertificate {
    ServerCertificate {
        name: name.map(str::to_owned),
        cert: Pem::File(authority.path(&format!("{file}.pem"))),
        key: Pem::File(authority.path(&format!("{file}.key"))),
    }
}

/// TLS with a certificate for `localhost`.
pub(super) fn settings(authority: &Authority) -> TlsSettings {
    authority.server("server", &["localhost"]);
    TlsSettings {
        place: "listeners[0]".to_owned(),
        certificates: vec![certificate(authority, None, "server")],
        client_ca: None,
        client_auth: ClientAuth::None,
        crl: None,
        tls12: true,
        ciphers: Vec::new(),
    }
}

fn mutual(authority: &Authority, client_auth: ClientAuth) -> TlsSettings {
    TlsSettings {
        client_ca: Some(Pem::File(authority.path("ca.pem"))),
        client_auth,
        ..settings(authority)
    }
}

pub(super) fn listener(settings: TlsSettings) -> ListenerSettings {
    ListenerSettings {
        name: "tls".into(),
        transport: Transport::Tls,
        allow_anonymous: true,
        tls: Some(Arc::new(Tls::open(settings).unwrap())),
        ..ListenerSettings::default()
    }
}

/// What a client shows and accepts.
#[derive(Clone, Copy)]
pub(super) struct Visitor<'a> {
    pub(super) authority: &'a Authority,
    pub(super) asks_for: &'static str,
    pub(super) shows: Option<(&'a Authority, &'static str)>,
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
}

impl<'a> Visitor<'a> {
    pub(super) fn of(authority: &'a Authority) -> Self {
        Self {
            authority,
            asks_for: "localhost",
            shows: None,
            versions: BOTH,
        }
    }

    fn showing(authority: &'a Authority, file: &'static str) -> Self {
        Self {
            shows: Some((authority, file)),
            ..Self::of(authority)
        }
    }

    pub(super) async fn connect(
        self,
        address: SocketAddr,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        self.over(stream).await
    }

    pub(super) async fn over(self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.authority.path("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.shows {
            None => config.with_no_client_auth(),
            Some((authority, file)) => {
                let shown = CertificateDer::from_pem_file(authority.path(&format!("{file}.pem")));
                let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{file}.key")));
                config
                    .with_client_auth_cert(vec![shown.unwrap()], key.unwrap())
                    .unwrap()
            }
        };
        let name = ServerName::try_from(self.asks_for).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Whether the broker answers CONNECT: a client of TLS 1.3 learns of a refusal only then.
    async fn is_welcome(self, address: SocketAddr) -> bool {
        let Ok(mut stream) = self.connect(address).await else {
            return false;
        };
        let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01t";
        if stream.write_all(connect).await.is_err() {
            return false;
        }
        let mut answer = [0; 4];
        let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await;
        read.is_ok() && answer == [0x20, 2, 0, 0]
    }
}

#[tokio::test]
async fn every_version_of_mqtt_is_spoken_over_every_version_of_tls() {
    let authority = Authority::new();
    let scene = Scene::start(listener(settings(&authority))).await;
    for version in ALL {
        for tls in [&BOTH[..1], &BOTH[1..]] {
            let visitor = Visitor {
                versions: tls,
                ..Visitor::of(&authority)
            };
            let stream = visitor.connect(scene.address).await.unwrap();
            speaks_mqtt(Client::over(stream, version), "secret").await;
        }
    }
}

#[tokio::test]
async fn a_client_shows_a_certificate_of_the_ca_or_stays_outside() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (file, serial) in [("good", 1), ("revoked", 2)] {
        authority.client(file, "gw-01", serial);
    }
    stranger.client("foreign", "gw-01", 1);
    authority.revoke(&[2]);
    // In the field name it is the list; the certificate of that name is another file.
    let list = authority.path("list.pem");
    std::fs::copy(authority.path("revoked.pem"), &list).unwrap();
    authority.client("revoked", "gw-02", 2);
    let settings = TlsSettings {
        crl: Some(Pem::File(list)),
        ..mutual(&authority, ClientAuth::Require)
    };
    let scene = Scene::start(listener(settings)).await;
    let good = Visitor::showing(&authority, "good");
    let bad = [
        Visitor::of(&authority),
        Visitor::showing(&authority, "revoked"),
        Visitor {
            shows: Some((&stranger, "foreign")),
            ..Visitor::of(&authority)
        },
    ];
    for versions in [&BOTH[..1], &BOTH[1..]] {
        assert!(Visitor { versions, ..good }.is_welcome(scene.address).await);
        for bad in bad {
            assert!(!Visitor { versions, ..bad }.is_welcome(scene.address).await);
        }
    }
    scene.failed(HandshakeFailure::ClientCertificate, 6).await;
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_be_bad() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.client("good", "gw-01", 1);
    stranger.client("foreign", "gw-01", 1);
    let scene = Scene::start(listener(mutual(&authority, ClientAuth::Optional))).await;
    assert!(Visitor::of(&authority).is_welcome(scene.address).await);
    let good = Visitor::showing(&authority, "good");
    assert!(good.is_welcome(scene.address).await);
    let foreign = Visitor {
        shows: Some((&stranger, "foreign")),
        ..good
    };
    assert!(!foreign.is_welcome(scene.address).await);
}

#[tokio::test]
async fn the_name_in_a_certificate_is_the_user_name_where_the_listener_says_so() {
    let authority = Authority::new();
    authority.client("gw", "gw-01", 1);
    for (identity, username) in [
        (CertificateName::Cn, "gw-01"),
        (CertificateName::Dn, "CN=gw-01"),
    ] {
        let settings = ListenerSettings {
            // Nobody comes in without credentials, and nobody is asked for a password.
            allow_anonymous: false,
            identity,
            ..listener(mutual(&authority, ClientAuth::Optional))
        };
        let scene = Scene::start(settings).await;
        let visitor = Visitor::showing(&authority, "gw");
        let stream = visitor.connect(scene.address).await.unwrap();
        let mut client = Client::over(stream, V5);
        assert_eq!(client.hello("c").await.reason, ReasonCode::Success);
        let guest = scene.guest(&mut client).await;
        assert_eq!(guest.username.as_deref(), Some(username));
        assert_eq!(guest.cert_cn(), Some("gw-01"));
        assert_eq!(&*guest.listener, "tls");
        let nobody = Visitor::of(&authority)
            .connect(scene.address)
            .await
            .unwrap();
        let mut nobody = Client::over(nobody, V5);
        assert_eq!(nobody.hello("n").await.reason, ReasonCode::NotAuthorized);
        // No alternative name: nobody comes in as nobody.
    }
    let san = ListenerSettings {
        identity: CertificateName::San,
        ..listener(mutual(&authority, ClientAuth::Require))
    };
    let scene = Scene::start(san).await;
    assert!(
        !Visitor::showing(&authority, "gw")
            .is_welcome(scene.address)
            .await
    );
    scene.failed(HandshakeFailure::ClientCertificate, 1).await;
}

/// A broker behind two-way TLS, and where it listens.
async fn behind_certificates(
    builder: BrokerBuilder,
    authority: &Authority,
) -> (TestBroker, SocketAddr) {
    let broker = TestBroker::built(builder).await;
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    broker.listen(socket, listener(mutual(authority, ClientAuth::Require)));
    (broker, address)
}

#[tokio::test]
async fn the_name_in_a_certificate_says_where_its_client_may_publish_and_subscribe() {
    let authority = Authority::new();
    authority.client("one", "gw-01", 1);
    authority.client("two", "gw-02", 2);
    let rules = "allow all up/${cert_cn}/#\nallow subscribe down/# cert_cn gw-01";
    let acl = Acl::parse(&Source::new("acl", rules)).unwrap();
    let list = Arc::new(AccessList::new(Some(acl), None, DenyAction::Ignore));
    let (_broker, address) =
        behind_certificates(Broker::builder().authorizer(list), &authority).await;
    for (file, name, may_hear) in [("one", "gw-01", true), ("two", "gw-02", false)] {
        let visitor = Visitor::showing(&authority, file);
        let stream = visitor.connect(address).await.unwrap();
        let mut client = Client::over(stream, V5);
        assert_eq!(client.hello(file).await.reason, ReasonCode::Success);
        let own = format!("up/{name}/t");
        assert_eq!(client.subscribe(&own, 0).await, [ReasonCode::Success]);
        let refused = [ReasonCode::NotAuthorized];
        assert_eq!(client.subscribe("up/gw-03/t", 0).await, refused);
        let heard = client.subscribe("down/t", 0).await;
        assert_eq!(heard[0] == ReasonCode::Success, may_hear, "{name}");
        let foreign = client.publish(publish("up/gw-03/t", "x", 1, 1)).await;
        assert_eq!(foreign, ReasonCode::NotAuthorized);
        client.send(Packet::Publish(publish(&own, "x", 0, 0))).await;
        assert_eq!(&*client.receive_publish().await.topic, own);
    }
}

#[tokio::test]
async fn the_name_in_a_certificate_can_be_the_client_identifier() {
    let authority = Authority::new();
    authority.client("gw", "gw-01", 1);
    let settings = BrokerSettings {
        identity: ClientIdentity::CertCn,
        ..BrokerSettings::default()
    };
    let builder = Broker::builder().settings(settings);
    let (broker, address) = behind_certificates(builder, &authority).await;
    let visitor = Visitor::showing(&authority, "gw");
    let mut first = Client::over(visitor.connect(address).await.unwrap(), V5);
    let welcome = first.hello("of-the-client").await;
    assert_eq!(welcome.reason, ReasonCode::Success);
    assert_eq!(broker.broker.stats().sessions.get(), 1);
    // The certificate is the client, whatever it calls itself.
    let mut second = Client::over(visitor.connect(address).await.unwrap(), V5);
    let welcome = second.hello("another-name").await;
    assert_eq!(welcome.reason, ReasonCode::Success);
    first.expect_disconnect(ReasonCode::SessionTakenOver).await;
    assert_eq!(broker.broker.stats().sessions.get(), 1);
}

/// The certificate that the server shows to who asks for `asks_for`.
async fn shown(authority: &Authority, asks_for: &'static str, address: SocketAddr) -> Vec<u8> {
    let visitor = Visitor {
        asks_for,
        ..Visitor::of(authority)
    };
    let stream = visitor.connect(address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(authority: &Authority, file: &str) -> Vec<u8> {
    let pem = authority.path(&format!("{file}.pem"));
    CertificateDer::from_pem_file(pem).unwrap().to_vec()
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let authority = Authority::new();
    let mut settings = settings(&authority);
    authority.server("org", &["a.example.org", "b.example.org"]);
    authority.server("net", &["example.net"]);
    settings.certificates.extend([
        certificate(&authority, Some("*.example.org"), "org"),
        certificate(&authority, Some("Example.net"), "net"),
    ]);
    let scene = Scene::start(listener(settings)).await;
    for (name, file) in [
        ("localhost", "server"),
        ("a.example.org", "org"),
        ("b.example.org", "org"),
        ("example.net", "net"),
    ] {
        let found = shown(&authority, name, scene.address).await;
        assert!(found == der(&authority, file), "{name}");
    }
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_a_bad_file_changes_nothing() {
    let authority = Authority::new();
    let settings = listener(settings(&authority));
    let tls = settings.tls.clone().unwrap();
    let scene = Scene::start(settings).await;
    let stream = Visitor::of(&authority)
        .connect(scene.address)
        .await
        .unwrap();
    let mut standing = Client::over(stream, V5);
    standing.hello("standing").await;

    let before = der(&authority, "server");
    assert!(tls.changed().is_empty());
    authority.server("server", &["localhost"]);
    assert_eq!(tls.changed().len(), 2, "the certificate and its key");
    assert!(shown(&authority, "localhost", scene.address).await == before);
    tls.reload(false).unwrap();
    let after = der(&authority, "server");
    assert!(shown(&authority, "localhost", scene.address).await == after);
    standing.expect_nothing().await;

    for (file, text, message) in [
        (
            "server.pem",
            "no PEM at all",
            "listeners[0].cert holds no certificate",
        ),
        ("server.key", "", "listeners[0].key holds no private key"),
    ] {
        let good = std::fs::read_to_string(authority.path(file)).unwrap();
        authority.write(file, text);
        let problem = tls.reload(false).unwrap_err();
        assert!(problem.message.starts_with(message), "{problem}");
        assert_eq!(problem.code, "E1014");
        assert!(problem.file.ends_with(file), "{problem}");
        assert!(shown(&authority, "localhost", scene.address).await == after);
        authority.write(file, &good);
    }
    // The key of another certificate.
    authority.server("other", &["localhost"]);
    std::fs::copy(authority.path("other.key"), authority.path("server.key")).unwrap();
    let problem = tls.reload(false).unwrap_err();
    assert!(
        problem
            .message
            .contains("does not belong to the certificate"),
        "{problem}"
    );
    assert!(shown(&authority, "localhost", scene.address).await == after);
}

#[tokio::test]
async fn what_is_no_tls_or_an_old_one_is_counted() {
    let authority = Authority::new();
    let settings = TlsSettings {
        tls12: false,
        ciphers: vec!["TLS13_CHACHA20_POLY1305_SHA256".to_owned()],
        ..settings(&authority)
    };
    let scene = Scene::start(listener(settings)).await;
    let old = Visitor {
        versions: &BOTH[1..],
        ..Visitor::of(&authority)
    };
    assert!(!old.is_welcome(scene.address).await);
    let mut plain = scene.broker.open(V5).await;
    plain
        .send_bytes(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        .await;
    scene.failed(HandshakeFailure::Tls, 2).await;
    let new = Visitor::of(&authority)
        .connect(scene.address)
        .await
        .unwrap();
    let suite = new.get_ref().1.negotiated_cipher_suite().unwrap();
    assert_eq!(
        suite.suite().as_str(),
        Some("TLS13_CHACHA20_POLY1305_SHA256")
    );
}

#[test]
fn a_setting_that_cannot_be_is_told_with_its_cure() {
    let authority = Authority::new();
    let good = settings(&authority);
    let unknown = TlsSettings {
        ciphers: vec!["RC4".to_owned()],
        ..good.clone()
    };
    let problem = unknown.load().unwrap_err();
    assert!(problem.message.contains("`RC4` is not known"), "{problem}");
    let missing = TlsSettings {
        client_ca: Some(Pem::File(authority.path("nowhere.pem"))),
        client_auth: ClientAuth::Require,
        ..good.clone()
    };
    let problem = missing.load().unwrap_err();
    assert!(
        problem
            .message
            .starts_with("listeners[0].client_ca cannot be read"),
        "{problem}"
    );
    assert!(problem.file.ends_with("nowhere.pem"));
    assert!(problem.help.is_some());
}
