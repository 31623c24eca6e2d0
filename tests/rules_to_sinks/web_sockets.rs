//! Bridges in WebSockets: to another weir, and through a stand-in for AWS that checks the signature of the address before
//! anything reaches the weir behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use weir_test_support::{Authority, LinePublisher, Received, Site, Subscriber, Weir, wait_until};

use crate::WEIR;
use crate::provision::{acceptor, server_config, tls_in_front_of};

const DEADLINE: Duration = Duration::from_secs(60);
const HOST: &str = "a1weir-ats.iot.eu-west-1.amazonaws.com";
const SECRET: &str = "weirTestSecretKeyweirTestSecretKey000001";

/// A weir that is spoken to in WebSockets, too.
async fn far(site: &Site) -> Weir {
    site.write(
        "weir.toml",
        "http.bind = \"127.0.0.1:0\"\n[[listeners]]\nbind = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"web\"\nkind = \"ws\"\nbind = \"127.0.0.1:0\"\npath = \"/mqtt\"\n",
    );
    site.start(WEIR).await
}

fn web_socket_port(far: &Weir) -> u16 {
    let printed = far.printed();
    let mut words = printed.split_whitespace();
    let address = words.find(|word| *word == "ws").and_then(|_| words.next());
    let port = address.and_then(|address| address.split(':').next_back());
    let digits: String = port
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

/// The way in to AWS: TLS, and who has not signed the address right gets 403.
struct Aws {
    authority: Authority,
    port: u16,
    /// What was asked for, let in or not.
    asked: Arc<Mutex<Vec<String>>>,
    /// Counts up; then every connection ends.
    cut: watch::Sender<u32>,
    server: tokio::task::JoinHandle<()>,
}

impl Aws {
    async fn start(behind: u16) -> Self {
        let authority = Authority::new();
        authority.server("server", &["localhost"]);
        let acceptor = acceptor(&authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, (cut, cuts)) = (Arc::default(), watch::channel(0));
        let seen = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, mut cuts) =
                    (acceptor.clone(), Arc::clone(&seen), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        () = admit(acceptor, stream, &seen, behind) => {}
                    }
                });
            }
        });
        Self {
            authority,
            port,
            asked,
            cut,
            server,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn connector(&self, secret: &str) -> String {
        format!(
            "type = \"mqtt\"\npreset = \"aws_iot\"\nhost = \"{HOST}\"\naddresses = [\"wss://localhost:{}\"]\n\
             client_id = \"weir-edge-1\"\nregion = \"eu-west-1\"\naccess_key_id = \"test-key-id-weir-1\"\n\
             secret_access_key = \"{secret}\"\nrate = 1000\n\
             backoff = {{ base = \"1s\", cap = \"2s\" }}\ntls = {{ ca = \"{}\" }}\n",
            self.port,
            self.authority.text("ca.pem"),
        )
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn admit(acceptor: TlsAcceptor, stream: TcpStream, seen: &Mutex<Vec<String>>, behind: u16) {
    let Ok(mut client) = acceptor.accept(stream).await else {
        return;
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let target = text.split(' ').nth(1).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("Host: "));
    let host = host.or_else(|| text.lines().find_map(|line| line.strip_prefix("host: ")));
    seen.lock().unwrap().push(target.to_owned());
    if host != Some(HOST) || !is_signed(target) {
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(refusal.as_bytes()).await;
        let _ = client.shutdown().await;
        return;
    }
    let mut broker = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
    broker.write_all(&head).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
}

/// Whether the address is the one that the secret makes of its own parts.
fn is_signed(target: &str) -> bool {
    let Some((_, query)) = target.split_once('?') else {
        return false;
    };
    let parts: HashMap<&str, &str> = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .collect();
    let credential = parts["X-Amz-Credential"].replace("%2F", "/");
    let (key, _) = credential.split_once('/').unwrap();
    let inputs = json!({
        "host": HOST, "region": "eu-west-1", "client_id": "any",
        "amz_date": parts["X-Amz-Date"], "expires": parts["X-Amz-Expires"].parse::<u32>().unwrap(),
        "access_key_id": key, "secret_access_key": SECRET,
    });
    let signed = weir_sinks::bridge::sign_vector("aws_sigv4_ws", &inputs).unwrap();
    signed.show().url.unwrap() == format!("wss://{HOST}:443{target}")
}

fn rule(connector: &str) -> String {
    format!(
        "sql = '''SELECT payload FROM \"out\"'''\n\
         [[sinks]]\nconnector = \"{connector}\"\ntopic = \"site/7/up\"\nqos = 1\npayload = '${{payload}}'\n"
    )
}

async fn publish(near: &Weir, numbers: std::ops::Range<u32>) {
    let lines: String = numbers.map(|number| format!("{number}\n")).collect();
    let mut publisher = LinePublisher::start(near.mqtt_port(), &["-t", "out", "-q", "1"]);
    publisher.send(&lines).await;
    publisher.finish().await;
}

fn numbers(messages: &[Received]) -> Vec<u32> {
    let number = |message: &Received| message.payload.parse().unwrap();
    messages.iter().map(number).collect()
}

async fn until_state(near: &Weir, wanted: &str) -> Value {
    let shown = async || {
        let (_, text) = near.get("/weir/v1/connectors").await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["items"][0].clone()
    };
    wait_until(wanted, DEADLINE, || async {
        shown().await["state"] == wanted
    })
    .await;
    shown().await
}

#[tokio::test]
async fn an_address_that_is_signed_anew_for_each_connection_opens_aws() {
    let far_site = Site::new();
    let far = far(&far_site).await;
    let aws = Aws::start(web_socket_port(&far)).await;
    let mut subscriber = Subscriber::start(far.mqtt_port(), "site/7/up", &["-q", "1"]).await;
    let near_site = Site::new();
    near_site.connector("aws", &aws.connector(SECRET));
    near_site.rule("up", &rule("aws"));
    let near = near_site.start(WEIR).await;
    publish(&near, 0..50).await;
    let _ = subscriber.wait_for(50).await;
    // A second later the address is another one.
    let _ = aws.cut.send(1);
    publish(&near, 50..100).await;
    let mut count = 100;
    while !numbers(subscriber.wait_for(count).await).contains(&99) {
        count += 1;
    }
    // What was on its way when the link broke may have come twice.
    let mut first = std::collections::HashSet::new();
    let mut arrived = numbers(subscriber.wait_for(count).await);
    arrived.retain(|number| first.insert(*number));
    assert_eq!(arrived, (0..100).collect::<Vec<_>>());
    let asked = aws.asked();
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "{asked:?}");
    assert!(!near.printed().contains("X-Amz-Signature"));
    let tested = near.command(&["bridge", "test", "aws"]).await.succeeded();
    assert!(tested.stdout.contains("connect"), "{}", tested.stdout);
}

#[tokio::test]
async fn a_wrong_access_key_is_told_and_loses_nothing() {
    let far_site = Site::new();
    let far = far(&far_site).await;
    let aws = Aws::start(web_socket_port(&far)).await;
    let mut subscriber = Subscriber::start(far.mqtt_port(), "site/7/up", &["-q", "1"]).await;
    let near_site = Site::new();
    near_site.connector("aws", &aws.connector("another"));
    near_site.rule("up", &rule("aws"));
    let near = near_site.start(WEIR).await;
    publish(&near, 0..10).await;
    let shown = until_state(&near, "auth_failed").await;
    assert_eq!(shown["last_error"]["code"], "E4103", "{shown}");
    near_site.connector("aws", &aws.connector(SECRET));
    let _ = near.reload().await.succeeded();
    let arrived = numbers(subscriber.wait_for(10).await);
    assert_eq!(arrived, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn topics_cross_both_ways_in_a_web_socket() {
    let far_site = Site::new();
    let far = far(&far_site).await;
    let near_site = Site::new();
    near_site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\naddresses = [\"ws://127.0.0.1:{}/mqtt\"]\nclient_id = \"near\"\n\
             [[out]]\nfilter = \"up/#\"\n[[in]]\nfilter = \"down/#\"\n",
            web_socket_port(&far)
        ),
    );
    let near = near_site.start(WEIR).await;
    wait_until("the bridge is up", DEADLINE, || async {
        near.metric("weir_connector_up", &[]).await > 0.5
    })
    .await;
    let mut up = Subscriber::start(far.mqtt_port(), "up/#", &["-q", "2"]).await;
    let mut down = Subscriber::start(near.mqtt_port(), "down/#", &["-q", "2"]).await;
    // Larger than what one frame of the wire or one read holds.
    let large = "x".repeat(200_000);
    for (from, topic) in [(&near, "up/a"), (&far, "down/a")] {
        let mut publisher = LinePublisher::start(from.mqtt_port(), &["-t", topic, "-q", "2"]);
        publisher.send(&format!("{large}\nsmall\n")).await;
        publisher.finish().await;
    }
    for messages in [up.wait_for(2).await, down.wait_for(2).await] {
        let lengths: Vec<usize> = messages.iter().map(|it| it.payload.len()).collect();
        assert_eq!(lengths, [200_000, 5]);
    }
}

#[tokio::test]
async fn below_a_web_socket_no_other_protocol_is_named() {
    let far_site = Site::new();
    let far = far(&far_site).await;
    let behind = web_socket_port(&far);
    let authority = Authority::new();
    authority.server("server", &["localhost"]);
    // Who names a protocol has to name this one.
    let mut config = server_config(&authority);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (port, server) = tls_in_front_of(behind, acceptor).await;
    let site = Site::new();
    site.connector(
        "aws",
        &format!(
            "type = \"mqtt\"\npreset = \"aws_iot\"\naddresses = [\"wss://localhost:{port}\"]\n\
             client_id = \"weir-edge-1\"\nauthorizer = \"A\"\ntls = {{ ca = \"{}\" }}\n",
            authority.text("ca.pem"),
        ),
    );
    let tested = site.weir(WEIR, &["bridge", "test", "aws"]).await;
    let _ = tested.succeeded();
    server.abort();
}
