//! `weir bridge test`, against remotes that go wrong in ways that look alike; and how far apart CONNECTs are.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use weir_sinks::bridge::{Stage, test};
use weir_sinks::config::connector::BridgeConfig;
use weir_sinks::{Connector, ConnectorConfig};
use weir_test_support::{Authority, Mosquitto, free_port};

use crate::bench::PATIENCE;
use crate::crossing::{Far, Remote};
use crate::tls::certificates;

fn bridge(text: &str) -> Box<BridgeConfig> {
    bridge_with("100ms", text)
}

/// `spacing`: the shortest time between two CONNECTs.
fn bridge_with(spacing: &str, text: &str) -> Box<BridgeConfig> {
    let text = format!(
        "type = \"mqtt\"\nclient_id = \"w\"\nbackoff = {{ base = \"{spacing}\", cap = \"{spacing}\" }}\n{text}"
    );
    match toml::from_str(&text).unwrap() {
        ConnectorConfig::Mqtt(config) => config,
        other => panic!("{other:?}"),
    }
}

/// Names of the stages, and whether each went well.
fn outline(stages: &[Stage]) -> Vec<(&'static str, bool)> {
    stages.iter().map(|stage| (stage.name, stage.ok)).collect()
}

/// A port where TLS is spoken with the folder's certificate, of these versions and protocols, and nothing else: what
/// comes is read once, and then the connection ends.
async fn tls_alone(
    folder: &Path,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> u16 {
    serve(folder, versions, alpn, Arc::new(NoClientAuth)).await
}

async fn serve(
    folder: &Path,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
    clients: Arc<dyn ClientCertVerifier>,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn what_is_likely_behind_a_failure_fits_what_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let plain = Mosquitto::start().await;
    let secure = Mosquitto::start_with(&format!(
        "allow_anonymous true\ncertfile {}\nkeyfile {}\n",
        path("cert.pem"),
        path("key.pem")
    ))
    .await;
    let no_mqtt = tls_alone(folder.path(), &[&TLS13], &[]).await;
    let old = tls_alone(folder.path(), &[&TLS12], &[]).await;
    let named = tls_alone(folder.path(), &[&TLS13], &["x-amzn-mqtt-ca"]).await;
    let tls = "ca = \"ca.pem\", server_name = \"remote.test\"";
    let (plain_port, secure_port) = (plain.port(), secure.port());
    for (address, more, stage, code, likely) in [
        (
            format!("mqtts://127.0.0.1:{no_mqtt}"),
            "",
            "connect",
            "E4107",
            "TLS is spoken there, and no MQTT",
        ),
        (
            format!("wss://127.0.0.1:{no_mqtt}"),
            "",
            "connect",
            "E4107",
            "no MQTT in a WebSocket",
        ),
        (
            format!("mqtt://127.0.0.1:{secure_port}"),
            "",
            "connect",
            "E4107",
            "or wants TLS: write mqtts://",
        ),
        (
            format!("ws://127.0.0.1:{plain_port}"),
            "",
            "connect",
            "E4107",
            "or wants TLS: write wss://",
        ),
        (
            format!("mqtts://127.0.0.1:{plain_port}"),
            "",
            "tls",
            "E3406",
            "does not speak TLS: write mqtt://",
        ),
        (
            format!("mqtts://127.0.0.1:{old}"),
            ", min_version = \"1.3\"",
            "tls",
            "E3406",
            "tls.min_version",
        ),
        (
            format!("mqtts://127.0.0.1:{named}"),
            ", alpn = [\"mqtt\"]",
            "tls",
            "E3406",
            "tls.alpn",
        ),
    ] {
        let config = bridge(&format!(
            "addresses = [\"{address}\"]\nprotocol = \"3.1.1\"\ntls = {{ {tls}{more} }}"
        ));
        let stages = test(&config, folder.path(), true, None).await;
        let failed = stages.last().unwrap();
        let found = (failed.name, failed.code, failed.likely.unwrap_or_default());
        assert_eq!(
            (found.0, found.1),
            (stage, Some(code)),
            "{address}{more}: {stages:?}"
        );
        assert!(found.2.contains(likely), "{address}{more}: {stages:?}");
    }
}

#[tokio::test]
async fn what_tls_has_agreed_on_is_told() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = tls_alone(folder.path(), &[&TLS12], &["x-amzn-mqtt-ca"]).await;
    let config = bridge(&format!(
        "addresses = [\"mqtts://127.0.0.1:{port}\"]\n\
         tls = {{ ca = \"ca.pem\", server_name = \"remote.test\", alpn = [\"a\", \"x-amzn-mqtt-ca\"] }}"
    ));
    let stages = test(&config, folder.path(), true, None).await;
    let tls = stages.iter().find(|stage| stage.name == "tls").unwrap();
    assert!(tls.ok, "{stages:?}");
    assert_eq!(
        tls.detail,
        "TLS 1.2, ALPN x-amzn-mqtt-ca, certificate valid 1 day"
    );
}

#[tokio::test]
async fn a_revoked_certificate_is_told_before_connect_where_tls_says_so_then() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let authority = Authority::new();
    authority.client("weir", "weir", 7);
    authority.revoke(&[7]);
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let list = CertificateRevocationListDer::from_pem_file(authority.path("revoked.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls([list])
        .build()
        .unwrap();
    let port = serve(folder.path(), &[&TLS12], &[], clients).await;
    let config = bridge(&format!(
        "addresses = [\"mqtts://127.0.0.1:{port}\"]\n\
         tls = {{ ca = \"ca.pem\", server_name = \"remote.test\", cert = \"{}\", key = \"{}\" }}",
        authority.text("weir.pem"),
        authority.text("weir.key"),
    ));
    let stages = test(&config, folder.path(), true, None).await;
    let failed = stages.last().unwrap();
    assert_eq!(
        (failed.name, failed.code),
        ("tls", Some("E4132")),
        "{stages:?}"
    );
    assert!(failed.likely.unwrap().contains("revoked"), "{stages:?}");
}

/// When the next CONNECT comes, and whether it asks for a clean session; it is answered unless `hangs_up`.
async fn next_connect(remote: &Remote, hangs_up: bool) -> (Instant, bool) {
    if hangs_up {
        let stream = remote.connection().await;
        let mut far = Far { stream, v5: true };
        assert_eq!(far.packet().await.0 >> 4, 1, "CONNECT");
        return (Instant::now(), false);
    }
    let (mut far, clean) = remote.accept_either(false).await;
    let at = Instant::now();
    assert_eq!(far.packet().await.0, 0xE0, "DISCONNECT");
    (at, clean)
}

#[tokio::test]
async fn connects_of_a_test_are_as_far_apart_as_the_remote_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let remotes = [Remote::new().await, Remote::new().await];
    let addresses = remotes.each_ref().map(Remote::address);
    // Asked in MQTT 5, then in 3.1.1, and once more to remove the session; at two addresses.
    let config = bridge_with(
        "1s",
        &format!("addresses = {addresses:?}\n[[out]]\nfilter = \"#\""),
    );
    let asked = async {
        let mut connects = Vec::new();
        for remote in &remotes {
            drop(remote.connection().await);
            for hangs_up in [true, false, false] {
                connects.push(next_connect(remote, hangs_up).await);
            }
        }
        connects
    };
    let (stages, connects) = tokio::join!(test(&config, folder.path(), true, None), asked);
    assert!(stages.iter().all(|stage| stage.ok), "{stages:?}");
    let clean: Vec<_> = connects.iter().map(|(_, clean)| *clean).collect();
    assert_eq!(clean, [false, false, true].repeat(2));
    for pair in connects.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap >= Duration::from_millis(990), "{gap:?}");
    }
}

#[tokio::test]
async fn where_no_session_can_be_needed_none_is_made_that_would_have_to_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = bridge(&format!(
        "addresses = [\"{}\"]\nprotocol = \"3.1.1\"\nqos_cap = 1",
        remote.address()
    ));
    let asked = async {
        drop(remote.connection().await);
        next_connect(&remote, false).await.1
    };
    let (stages, clean) = tokio::join!(test(&config, folder.path(), true, None), asked);
    assert!(clean && stages.iter().all(|stage| stage.ok), "{stages:?}");
}

#[tokio::test]
async fn connects_of_a_bridge_are_as_far_apart_though_the_way_to_the_remote_was_long() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "type = \"mqtt\"\nclient_id = \"w\"\nprotocol = \"3.1.1\"\naddresses = [\"ws://127.0.0.1:{port}\"]\n\
         backoff = {{ base = \"1s\", cap = \"1s\" }}\n[[out]]\nfilter = \"#\""
    );
    let config: ConnectorConfig = toml::from_str(&text).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let mut connects = Vec::new();
    // The first WebSocket takes its time; then the credentials are refused, which is tried again at once.
    for slowness in [900, 0] {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(slowness)).await;
        #[expect(
            clippy::result_large_err,
            reason = "the callback's type is the library's"
        )]
        let speaks_mqtt = |_: &Request, mut response: Response| {
            let headers = response.headers_mut();
            headers.insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, speaks_mqtt).await;
        let mut socket = socket.unwrap();
        socket.next().await.unwrap().unwrap();
        connects.push(Instant::now());
        let refused = vec![0x20, 2, 0, 5];
        socket.send(refused.into()).await.unwrap();
    }
    let gap = connects[1] - connects[0];
    assert!(gap >= Duration::from_millis(990), "{gap:?}");
}

#[tokio::test]
async fn each_address_of_the_list_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let good = Mosquitto::start().await;
    let locked = Mosquitto::start_with_password("weir", "right").await;
    let ports = [free_port(), good.port(), locked.port()];
    let addresses = ports.map(|port| format!("mqtt://127.0.0.1:{port}"));
    let config = bridge(&format!("addresses = {addresses:?}\nprotocol = \"5\""));
    let stages = test(&config, folder.path(), true, None).await;
    let of = |address: &String| -> Vec<Stage> {
        let of = |stage: &&Stage| stage.endpoint.as_ref() == Some(address);
        stages.iter().filter(of).cloned().collect()
    };
    let [closed, good, locked] = addresses.each_ref().map(of);
    assert_eq!(closed.len() + good.len() + locked.len(), stages.len());
    let way = [("config", true), ("dns", true), ("tcp", true)];
    assert_eq!(outline(&closed), [&way[..2], &[("tcp", false)]].concat());
    assert_eq!(outline(&good), [&way[..], &[("connect", true)]].concat());
    assert_eq!(outline(&locked), [&way[..], &[("connect", false)]].concat());
    let by = format!("CONNACK accepted by 127.0.0.1:{}", ports[1]);
    assert!(good[3].detail.contains(&by), "{good:?}");
    assert_eq!(locked[3].code, Some("E4103"));
}
