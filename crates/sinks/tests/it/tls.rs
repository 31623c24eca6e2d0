//! TLS to a mosquitto with certificates of our own.

use std::path::Path;
use std::process::Command;

use weir_sinks::LinkState;
use weir_test_support::{Mosquitto, wait_until};

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
