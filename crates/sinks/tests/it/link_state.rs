//! What a bridge shows of its link, and what it does about it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_sinks::{Connector, ConnectorConfig, LinkState, MemoryRows};
use weir_test_support::{Mosquitto, wait_until};

use crate::bench::{Bench, PATIENCE};
use crate::crossing::{Far, Remote};
use crate::exact::{commit, open_sink, take};
use crate::mirror::Broker;
use crate::tls::certificates;

async fn until(connector: &Connector, wanted: LinkState, code: &str) {
    wait_until(code, PATIENCE, || async {
        let state = connector.state();
        let last = state.last_error.map(|last| last.error.code());
        (state.link, last.unwrap_or_default()) == (wanted, code)
    })
    .await;
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// A token that ends in so many milliseconds, put in the place of the one before in one step.
fn write_token(folder: &Path, token: &str, ends_in: i64) {
    let ends = now_ms() + ends_in;
    let text = format!(
        "{{\"tokens\": [{{\"type\": \"RW\", \"token\": \"{token}\"}}], \"expires_ms\": {ends}}}"
    );
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join("tokens")).unwrap();
}

/// A bridge that signs in with that token, and its links at the remote: what CONNECT said, and the connection.
fn with_token(folder: &Path, remote: &Remote) -> Arc<Connector> {
    with_token_at(folder, remote, 0)
}

/// The same with a clock that goes wrong by so much.
fn with_token_at(folder: &Path, remote: &Remote, clock_offset_ms: i64) -> Arc<Connector> {
    let config = format!(
        "type = \"mqtt\"\npreset = \"aliyun_mq\"\nclock_offset_ms = {clock_offset_ms}\naddresses = [\"{}\"]\ngroup_id = \"GID_weir\"\n\
         device_id = \"d\"\naccess_key = \"k\"\ninstance_id = \"i\"\ntokens_from = \"${{file:{}}}\"\n\
         backoff = {{ base = \"5s\", cap = \"5s\" }}\n[[out]]\nfilter = \"#\"",
        remote.address(),
        folder.join("tokens").display()
    );
    let config: ConnectorConfig = toml::from_str(&config).unwrap();
    let connector = Connector::open("hq", &config, folder).unwrap();
    connector.start();
    connector
}

async fn signed_in(remote: &Remote) -> (TcpStream, String) {
    let mut stream = remote.connection().await;
    let mut connect = vec![0; 1024];
    let many = stream.read(&mut connect).await.unwrap();
    let said = String::from_utf8_lossy(&connect[..many]).into_owned();
    stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    (stream, said)
}

#[tokio::test]
async fn a_token_that_nobody_renews_costs_no_link_and_shows_until_there_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    write_token(folder.path(), "first", 5000);
    let connector = with_token(folder.path(), &remote);
    let (mut stream, said) = signed_in(&remote).await;
    assert!(said.contains("RW|first"), "{said}");
    until(&connector, LinkState::Degraded, "E4131").await;
    // It stays as long as the remote lets it.
    let left = Duration::from_millis(2500);
    let closed = tokio::time::timeout(left, stream.read_u8()).await;
    assert!(closed.is_err(), "the link was closed: {closed:?}");
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.connects.load(Ordering::Relaxed), 1);
    drop(stream);
    until(&connector, LinkState::AuthFailed, "E4131").await;
    write_token(folder.path(), "second", 3_600_000);
    let (_stream, said) = signed_in(&remote).await;
    assert!(said.contains("RW|second"), "{said}");
    wait_until("it is up", PATIENCE, || async {
        connector.state().link == LinkState::Up
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_renewed_late_is_taken_while_the_old_one_lives() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    write_token(folder.path(), "first", 12_000);
    let connector = with_token(folder.path(), &remote);
    let (mut stream, _) = signed_in(&remote).await;
    until(&connector, LinkState::Degraded, "E4131").await;
    write_token(folder.path(), "second", 3_600_000);
    // It is shown on the link that is up: a PUBLISH whose packet id stands behind its topic.
    let topic = b"$SYS/uploadToken";
    let mut said = Vec::new();
    let read = async {
        while !said.ends_with(b"}") {
            stream.read_buf(&mut said).await.unwrap();
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    read.expect("a PUBLISH with the token");
    let text = String::from_utf8_lossy(&said).into_owned();
    assert!(text.contains("second"), "{text}");
    let at = said.windows(topic.len()).position(|bytes| bytes == topic);
    let id = at.unwrap() + topic.len();
    let puback = [0x40, 2, said[id], said[id + 1]];
    stream.write_all(&puback).await.unwrap();
    wait_until("it is up", PATIENCE, || async {
        connector.state().link == LinkState::Up
    })
    .await;
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.connects.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn tokens_are_not_shown_while_nobody_knows_what_time_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    write_token(folder.path(), "first", 3_600_000);
    // As a machine without a battery starts.
    let connector = with_token_at(folder.path(), &remote, -now_ms());
    until(&connector, LinkState::ClockUnset, "E4109").await;
    let asked = tokio::time::timeout(Duration::from_millis(200), remote.connection()).await;
    assert!(asked.is_err(), "it has signed in all the same");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_remote_that_takes_nothing_any_more_is_noticed_while_messages_of_qos_0_leave() {
    // It reads CONNECT, and then no more; what is on its way has little room.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Neither a PINGREQ nor an acknowledgement is due.
    let connector = format!(
        "type = \"mqtt\"\nclient_id = \"w\"\nprotocol = \"3.1.1\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
         keepalive = \"600s\"\nack_timeout = \"600s\"\nbackoff = {{ base = \"5s\", cap = \"5s\" }}"
    );
    let bench = Bench::new(
        "topic = \"t\"\nqos = 0\npayload = \"${p}\"",
        Some(&connector),
    );
    let row = format!("{{\"p\":\"{}\"}}", "x".repeat(100_000));
    (0..200).for_each(|_| bench.push(&row));
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (mut stream, _) = accepted.unwrap().unwrap();
    let _ = stream.read(&mut [0; 1024]).await.unwrap();
    stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    let connector = bench.connector.as_ref().unwrap();
    wait_until("the link is given up", PATIENCE, || async {
        let state = connector.state();
        let last = state.last_error.map(|last| last.error);
        last.is_some_and(|error| {
            error.code() == "E3403" && error.message().contains("takes nothing")
        })
    })
    .await;
    drop(stream);
}

/// A token without an end, put in the place of the one before.
fn write_endless(folder: &Path, token: &str) {
    let text = format!("{{\"tokens\": [{{\"type\": \"RW\", \"token\": \"{token}\"}}]}}");
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join("tokens")).unwrap();
}

/// What the cloud says without having been asked, at `QoS` 0.
async fn says(stream: &mut TcpStream, topic: &str, payload: &str) {
    let length = u8::try_from(2 + topic.len() + payload.len()).unwrap();
    assert!(length < 128);
    let mut bytes = vec![0x30, length, 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(payload.as_bytes());
    stream.write_all(&bytes).await.unwrap();
}

/// Waits until another token is shown on the link that is up; its PUBACK, and what was said.
async fn shown(stream: &mut TcpStream) -> ([u8; 4], String) {
    let topic = b"$SYS/uploadToken";
    let mut said = Vec::new();
    let read = async {
        while !said.ends_with(b"}") {
            assert_ne!(
                stream.read_buf(&mut said).await.unwrap(),
                0,
                "the link was closed"
            );
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("a PUBLISH with the token");
    let at = said.windows(topic.len()).position(|bytes| bytes == topic);
    let id = at.unwrap() + topic.len();
    let text = String::from_utf8_lossy(&said).into_owned();
    ([0x40, 2, said[id], said[id + 1]], text)
}

#[tokio::test]
async fn an_end_that_only_the_cloud_knows_of_is_kept_in_mind_until_there_is_another_token() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    write_endless(folder.path(), "first");
    let connector = with_token(folder.path(), &remote);
    let (mut stream, _) = signed_in(&remote).await;
    let notice = format!("{{\"expireTime\":{},\"type\":\"RW\"}}", now_ms() + 300_000);
    says(&mut stream, "$SYS/tokenExpireNotice", &notice).await;
    until(&connector, LinkState::Degraded, "E4131").await;
    write_endless(folder.path(), "second");
    let (puback, text) = shown(&mut stream).await;
    assert!(text.contains("second"), "{text}");
    stream.write_all(&puback).await.unwrap();
    wait_until("it is up", PATIENCE, || async {
        connector.state().link == LinkState::Up
    })
    .await;
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.connects.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_new_token_that_the_cloud_calls_forged_is_not_signed_in_with() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    write_token(folder.path(), "first", 4000);
    let connector = with_token(folder.path(), &remote);
    let (mut stream, _) = signed_in(&remote).await;
    write_token(folder.path(), "second", 3_600_000);
    let (_, text) = shown(&mut stream).await;
    assert!(text.contains("second"), "{text}");
    let notice = "{\"code\":1,\"type\":\"RW\"}";
    says(&mut stream, "$SYS/tokenInvalidNotice", notice).await;
    until(&connector, LinkState::AuthFailed, "E4140").await;
    // The first look finds the same, and is no attempt.
    let again = tokio::time::timeout(Duration::from_secs(8), remote.connection()).await;
    assert!(
        again.is_err(),
        "it has signed in with a token that is forged"
    );
    let stats = connector.bridge_stats().unwrap();
    let failures = stats.failures.iter().map(|of| of.load(Ordering::Relaxed));
    assert_eq!(
        (
            stats.connects.load(Ordering::Relaxed),
            failures.sum::<u64>()
        ),
        (1, 1)
    );
    write_token(folder.path(), "third", 3_600_000);
    let (_stream, said) = signed_in(&remote).await;
    assert!(said.contains("RW|third"), "{said}");
}

#[tokio::test]
async fn a_remote_without_retained_messages_is_told_of_the_link_without_retain() {
    let remote = Remote::new().await;
    let folder = tempfile::tempdir().unwrap();
    let more =
        "protocol = \"5\"\nstatus = { remote = true, topic = \"s\" }\n[[out]]\nfilter = \"#\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let stream = remote.connection().await;
    let mut far = Far { stream, v5: true };
    far.packet().await;
    // Retain Available: 0. [MQTT-3.2.2-14]
    far.send(&[0x20, 5, 0, 0, 2, 0x25, 0]).await;
    assert_eq!(far.packet().await.0, 0x30);
    let ended = tokio::spawn(async move { connector.end().await });
    assert_eq!(far.packet().await.0, 0x30);
    ended.await.unwrap();
}

#[tokio::test]
async fn rules_without_packet_ids_of_their_own_show_lose_nothing_and_get_those_that_become_free() {
    const LANES: u32 = 31;
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let more = "protocol = \"3.1.1\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let (broker, _greetings) = Broker::new(folder.path(), 0);
    let connector = Connector::open_at("hq", &config, folder.path(), Some(broker)).unwrap();
    let logs: Vec<_> = (0..=LANES)
        .map(|n| Arc::new(MemoryRows::new(1, u64::from(n) + 100)))
        .collect();
    let open = |n: u32| {
        let log = &logs[n as usize];
        open_sink(folder.path(), &config, &connector, &n.to_string(), log)
    };
    let mut sinks: Vec<_> = (0..LANES).map(open).collect();
    (0..LANES).for_each(|n| commit(&logs[n as usize], n));
    let mut far = remote.accept(false).await;
    let all = usize::try_from(LANES).unwrap();
    assert_eq!(take(&mut far, all).await.1.len(), all);
    assert_eq!(connector.state().link, LinkState::Up);

    let one_more = open(LANES);
    commit(&logs[all], 1000);
    assert_eq!(take(&mut far, 1).await.1[0].0, "1000");
    until(&connector, LinkState::Degraded, "E4130").await;

    // One of the rules is gone, and its queue is empty.
    sinks.remove(0).drain(Duration::from_secs(5)).await;
    let epochs: Vec<u64> = logs[1..]
        .iter()
        .map(|log| weir_sinks::RowLog::epoch(&**log))
        .collect();
    connector.keep_lanes(&epochs).unwrap();
    commit(&logs[all], 1001);
    assert_eq!(take(&mut far, 1).await.1[0].0, "1001");
    wait_until("it has a lane", PATIENCE, || async {
        connector.state().link == LinkState::Up
    })
    .await;
    let lanes = std::fs::read_to_string(folder.path().join("bridges/hq.lanes")).unwrap();
    assert!(lanes.lines().any(|line| line.ends_with(" 131")), "{lanes}");
    drop(one_more);
}

#[tokio::test]
async fn what_tls_is_told_follows_the_address_that_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The first address wants the name of a protocol; nobody who is trusted answers there.
    let config = format!(
        "type = \"mqtt\"\npreset = \"aws_iot\"\nclient_id = \"c\"\n\
         addresses = [\"mqtts://127.0.0.1:443\", \"mqtts://127.0.0.1:{port}\"]\n\
         tls = {{ ca = \"ca.pem\", cert = \"cert.pem\", key = \"key.pem\" }}\n\
         backoff = {{ base = \"1s\", cap = \"1s\" }}\n[[out]]\nfilter = \"#\""
    );
    let config: ConnectorConfig = toml::from_str(&config).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (stream, _) = accepted.unwrap().unwrap();
    let hello = tokio_rustls::LazyConfigAcceptor::new(Default::default(), stream);
    let hello = hello.await.unwrap();
    let offered: Option<Vec<_>> = (hello.client_hello().alpn()).map(Iterator::collect);
    assert_eq!(offered, None);
    let stats = connector.bridge_stats().unwrap();
    let ends = stats.certificate_ends_ms.load(Ordering::Relaxed);
    let days = (ends - now_ms()) as f64 / 86_400_000.0;
    assert!((1.9..=2.0).contains(&days), "{days}");
}

#[tokio::test]
async fn a_bridge_goes_back_to_its_first_address_when_that_has_been_there_for_a_while() {
    let (mut first, second) = (Mosquitto::start().await, Mosquitto::start().await);
    first.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "type = \"mqtt\"\nclient_id = \"w\"\naddresses = [\"mqtt://127.0.0.1:{}\", \"mqtt://127.0.0.1:{}\"]\n\
         backoff = {{ base = \"100ms\", cap = \"200ms\", stable = \"400ms\" }}\n[[out]]\nfilter = \"#\"",
        first.port(),
        second.port()
    );
    let config: ConnectorConfig = toml::from_str(&config).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let is_at = async |port: u16| {
        wait_until("it is there", PATIENCE, || async {
            let state = connector.state();
            let address = state.address.unwrap_or_default();
            state.link == LinkState::Up && address.ends_with(&format!(":{port}"))
        })
        .await;
    };
    is_at(second.port()).await;
    first.start_again().await;
    is_at(first.port()).await;
    // What asked was another client, and the link on the way was not broken but left.
    assert!(first.log().contains("weir-probe-"), "{}", first.log());
    assert!(
        second.log().contains("Client w disconnected"),
        "{}",
        second.log()
    );
}

#[tokio::test]
async fn the_remote_is_told_of_the_link_and_says_itself_when_it_is_lost() {
    let remote = Remote::new().await;
    let folder = tempfile::tempdir().unwrap();
    let more =
        "protocol = \"3.1.1\"\nstatus = { remote = true, topic = \"s\" }\n[[out]]\nfilter = \"#\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let stream = remote.connection().await;
    let mut far = Far { stream, v5: false };
    let (_, connect) = far.packet().await;
    // Will, its QoS 1, its RETAIN; behind the client id its topic and message.
    assert_eq!(connect[7] & 0b0011_1100, 0b0010_1100);
    assert!(connect.ends_with(&[0, 1, b's', 0, 1, b'0']), "{connect:?}");
    far.send(&[0x20, 2, 0, 0]).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, &body[..]), (0x31, &[0, 1, b's', b'1'][..]));
    let ended = tokio::spawn(async move { connector.end().await });
    let (kind, body) = far.packet().await;
    assert_eq!((kind, &body[..]), (0x31, &[0, 1, b's', b'0'][..]));
    assert_eq!(far.packet().await.0, 0xE0, "DISCONNECT");
    ended.await.unwrap();
}

#[tokio::test]
async fn a_remote_that_names_another_address_is_followed_there() {
    let (first, other, named) = (
        Remote::new().await,
        Remote::new().await,
        Remote::new().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let all = format!("\", \"{}\", \"{}\"]\n", other.address(), named.address());
    let more = "protocol = \"5\"\nfollow_redirect = true\n[[out]]\nfilter = \"#\"";
    let config = first.toml(more).replacen("\"]\n", &all, 1);
    let config: ConnectorConfig = toml::from_str(&config).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    let stream = first.connection().await;
    let mut far = Far { stream, v5: true };
    far.packet().await;
    let server = named.address().replace("mqtt://", "");
    let length = u8::try_from(server.len()).unwrap();
    // Use another server, and which.
    far.send(&[0x20, length + 6, 0, 0x9C, length + 3, 0x1C, 0, length])
        .await;
    far.send(server.as_bytes()).await;
    let _far = named.accept(false).await;
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.connects.load(Ordering::Relaxed), 2);
}
