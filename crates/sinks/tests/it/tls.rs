//! TLS to a mosquitto with certificates of our own.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use tokio::net::TcpListener;
use tokio_rustls::LazyConfigAcceptor;
use weir_sinks::bridge::failures::Reason;
use weir_sinks::{Connector, ConnectorConfig, LinkState, bridge};
use weir_test_support::{Authority, Mosquitto, wait_until};

use crate::bench::{Bench, PATIENCE};

/// A certificate for `remote.test` and its key, signed by a CA beside them.
pub(crate) fn certificates(folder: &Path) {
    let openssl = |line: &str| {
        let done = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(folder)
            .output();
        let done = done.expect("openssl is installed: apt-get install openssl");
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    std::fs::write(
        folder.join("san"),
        "subjectAltName=DNS:remote.test\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out csr.pem -subj /CN=remote.test",
    );
    openssl(
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile san",
    );
}

#[tokio::test]
async fn a_remote_is_believed_by_its_ca_and_name_and_by_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let remote = Mosquitto::start_with(&format!(
        "allow_anonymous true\ncertfile {}\nkeyfile {}\n",
        path("cert.pem"),
        path("key.pem")
    ))
    .await;
    // Each with a name of its own: one that is still leaving would be taken over by the next, and come back.
    let mut benches = 0;
    let mut bench = |protocol: &str, tls: &str| {
        benches += 1;
        let connector = format!(
            "type = \"mqtt\"\nclient_id = \"weir-{benches}\"\naddresses = [\"mqtts://127.0.0.1:{}\"]\nprotocol = \"{protocol}\"\n\
             backoff = {{ base = \"50ms\", cap = \"100ms\" }}\ntls = {tls}",
            remote.port()
        );
        let bench = Bench::new("topic = \"t\"\nqos = 1", Some(&connector));
        bench.push("{}");
        bench
    };
    let ca = path("ca.pem");
    for (protocol, tls) in [
        (
            "5",
            format!("{{ ca = \"{ca}\", server_name = \"remote.test\" }}"),
        ),
        (
            "3.1.1",
            format!("{{ ca = \"{ca}\", server_name = \"remote.test\" }}"),
        ),
        ("5", "{ insecure = true }".into()),
    ] {
        let bench = bench(protocol, &tls);
        assert_eq!(bench.settled().await.delivered, 1, "{protocol} {tls}");
    }
    for tls in [
        "{ ca = \"system\", server_name = \"remote.test\" }".to_owned(),
        format!("{{ ca = \"{ca}\" }}"),
        format!("{{ ca = \"{ca}\", server_name = \"other.test\" }}"),
    ] {
        let bench = bench("3.1.1", &tls);
        let connector = bench.connector.as_ref().unwrap();
        wait_until("the refusal shows", PATIENCE, || async {
            connector.state().last_error.is_some()
        })
        .await;
        let state = connector.state();
        assert_ne!(state.link, LinkState::Up);
        let text = state.last_error.unwrap().error.to_string();
        assert!(
            text.contains("ertificate") || text.contains("system has no trusted"),
            "{text}"
        );
        assert_eq!(bench.sink.counters().delivered, 0);
    }
}

/// The name and the protocols of the next handshake; it is not answered.
async fn asked(listener: &TcpListener) -> (Option<String>, Vec<String>) {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (stream, _) = accepted.unwrap().unwrap();
    let hello = LazyConfigAcceptor::new(Default::default(), stream);
    let hello = hello.await.unwrap();
    let said = hello.client_hello();
    let alpn = said.alpn().into_iter().flatten();
    let alpn = alpn.map(|name| String::from_utf8_lossy(name).into_owned());
    (said.server_name().map(str::to_owned), alpn.collect())
}

#[tokio::test]
async fn the_name_and_the_protocols_of_the_file_are_asked_for_by_the_bridge_and_by_its_test() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "type = \"mqtt\"\nclient_id = \"c\"\naddresses = [\"mqtts://127.0.0.1:{port}\"]\n\
         tls = {{ ca = \"ca.pem\", server_name = \"remote.test\", alpn = [\"b\", \"a\"] }}\n\
         backoff = {{ base = \"1s\", cap = \"1s\" }}\n[[out]]\nfilter = \"#\""
    );
    let config: ConnectorConfig = toml::from_str(&text).unwrap();
    let wanted = (
        Some("remote.test".to_owned()),
        vec!["b".to_owned(), "a".to_owned()],
    );
    let ConnectorConfig::Mqtt(bridge) = &config else {
        unreachable!()
    };
    let (stages, said) = tokio::join!(
        bridge::test(bridge, folder.path(), true, None),
        asked(&listener)
    );
    assert_eq!(said, wanted);
    assert_eq!(stages.last().unwrap().name, "tls", "{stages:?}");
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    assert_eq!(asked(&listener).await, wanted);
}

/// A mosquitto that wants certificates, and does not take the one with the serial number 7.
async fn remote_with_revoked(authority: &Authority) -> Mosquitto {
    authority.server("server", &["127.0.0.1"]);
    authority.revoke(&[7]);
    Mosquitto::start_with(&format!(
        "allow_anonymous true\nrequire_certificate true\ncafile {}\ncertfile {}\nkeyfile {}\ncrlfile {}\n",
        authority.text("ca.pem"),
        authority.text("server.pem"),
        authority.text("server.key"),
        authority.text("revoked.pem"),
    ))
    .await
}

#[tokio::test]
async fn a_revoked_certificate_is_told_as_that_and_loses_nothing() {
    let authority = Authority::new();
    authority.client("weir", "weir", 7);
    let remote = remote_with_revoked(&authority).await;
    let connector = format!(
        "type = \"mqtt\"\nclient_id = \"weir\"\naddresses = [\"mqtts://127.0.0.1:{}\"]\n\
         backoff = {{ base = \"50ms\", cap = \"100ms\" }}\n\
         tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
        remote.port(),
        authority.text("ca.pem"),
        authority.text("weir.pem"),
        authority.text("weir.key"),
    );
    let bench = Bench::new("topic = \"t\"\nqos = 1", Some(&connector));
    bench.push("{}");
    let link = bench.connector.as_ref().unwrap();
    wait_until("the refusal shows", PATIENCE, || async {
        let state = link.state();
        let code = state.last_error.map(|last| last.error.code());
        (state.link, code) == (LinkState::AuthFailed, Some("E4132"))
    })
    .await;
    let error = link.state().last_error.unwrap().error;
    assert!(error.to_string().contains("revoked"), "{error}");
    let stats = link.bridge_stats().unwrap();
    let refused = stats.failures[Reason::Credentials as usize].load(Ordering::Relaxed);
    assert!((1..=2).contains(&refused), "{refused}");

    let config: ConnectorConfig = toml::from_str(&connector).unwrap();
    let ConnectorConfig::Mqtt(config) = &config else {
        unreachable!()
    };
    let stages = bridge::test(config, bench.folder.path(), true, None).await;
    let last = stages.last().unwrap();
    // In TLS 1.3 the remote looks at it when the client thinks that all is well.
    assert_eq!(
        (last.name, last.code),
        ("connect", Some("E4132")),
        "{stages:?}"
    );
    assert!(last.likely.unwrap().contains("revoked"), "{stages:?}");

    // Another one in the same files is taken at the next attempt, within half a minute, and the row is still there.
    authority.client("weir", "weir", 8);
    let settled = bench.settled().await;
    assert_eq!(settled.delivered, 1, "{settled:?}");
    assert!(bench.dead_letters().is_empty());
}

#[tokio::test]
async fn a_remote_that_wants_a_certificate_says_so_and_the_bridge_tells() {
    let authority = Authority::new();
    let remote = remote_with_revoked(&authority).await;
    let text = format!(
        "type = \"mqtt\"\nclient_id = \"weir\"\naddresses = [\"mqtts://127.0.0.1:{}\"]\ntls = {{ ca = \"{}\" }}",
        remote.port(),
        authority.text("ca.pem"),
    );
    let config: ConnectorConfig = toml::from_str(&text).unwrap();
    let ConnectorConfig::Mqtt(config) = &config else {
        unreachable!()
    };
    let stages = bridge::test(config, authority.folder(), true, None).await;
    let last = stages.last().unwrap();
    assert_eq!((last.name, last.code), ("connect", Some("E4132")));
    assert!(last.likely.unwrap().contains("tls.cert"), "{stages:?}");
}
