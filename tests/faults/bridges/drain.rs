//! What has waited leaves at no less than half the rate of what is published while the remote is there.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Weir};

use super::kinds::PLAIN;
use super::remote::Remote;
use super::{long, weir_binary};

const PUBLISHERS: u64 = 4;
/// Messages of one publisher that may be under way.
const WINDOW: u64 = 32;
const POLL_EVERY: Duration = Duration::from_millis(50);

/// A publisher of QoS 1 that costs next to nothing: its packets are bytes, and of answers it counts the bytes.
async fn publish(port: u16, publisher: u64, messages: u64) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let id = format!("fast-{publisher}");
    let mut connect = vec![0x10, 12 + u8::try_from(id.len()).unwrap()];
    connect.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x00\x00");
    connect.push(u8::try_from(id.len()).unwrap());
    connect.extend_from_slice(id.as_bytes());
    stream.write_all(&connect).await.unwrap();
    let mut answers = vec![0; 4096];
    stream.read_exact(&mut answers[..4]).await.unwrap();
    let (mut sent, mut answered, mut partial) = (0, 0, 0);
    let mut bytes = Vec::new();
    while answered < messages {
        bytes.clear();
        while sent < messages && sent - answered < WINDOW {
            put(&mut bytes, publisher, sent);
            sent += 1;
        }
        stream.write_all(&bytes).await.unwrap();
        let read = stream.read(&mut answers).await.unwrap();
        assert!(read > 0, "the broker has closed the connection");
        partial += read as u64;
        // A PUBACK of MQTT 3.1.1 has four bytes.
        answered += partial / 4;
        partial %= 4;
    }
}

/// A PUBLISH with 128 bytes of payload.
fn put(bytes: &mut Vec<u8>, publisher: u64, number: u64) {
    let topic = format!("plain/out/q/{publisher}");
    let rest = 2 + topic.len() + 2 + 128;
    bytes.push(0x32);
    bytes.push(u8::try_from(rest % 128).unwrap() | 0x80);
    bytes.push(u8::try_from(rest / 128).unwrap());
    bytes.push(0);
    bytes.push(u8::try_from(topic.len()).unwrap());
    bytes.extend_from_slice(topic.as_bytes());
    let id = u16::try_from(number % 65_535 + 1).unwrap();
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(format!("{number:0>128}").as_bytes());
}

/// Publishes that many, by several publishers at once.
async fn publish_all(near: &Weir, messages: u64) {
    let each = messages / PUBLISHERS;
    let port = near.mqtt_port();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| tokio::spawn(publish(port, publisher, each)))
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

/// Waits until the remote has received this many beside those of before; messages a second since none had come.
async fn rate_at(remote: &Remote, before: f64, messages: u64) -> f64 {
    let wanted = before + f64::from(u32::try_from(messages).unwrap());
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut began = Instant::now();
    loop {
        let asked = Instant::now();
        let received = remote.received().await;
        if received <= before {
            began = asked;
        }
        if received >= wanted {
            return (received - before) / began.elapsed().as_secs_f64();
        }
        assert!(
            Instant::now() < deadline,
            "{received} of {wanted} have come"
        );
        tokio::time::sleep(POLL_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_at_no_less_than_half_of_the_live_rate() {
    let queued = if long().is_some() { 1_000_000 } else { 4000 };
    let live = queued / 4;
    let mut remote = Remote::weir().await;
    let site = Site::new();
    site.config("data_dir = \"data\"\ndurability = \"os\"\n");
    site.connector("plain", &remote.connector(&PLAIN));
    let near = site.start(&weir_binary()).await;

    // Twice, for the first messages pay for files that are not there yet.
    let mut rate_live = 0.0;
    for _ in 0..2 {
        let before = remote.received().await;
        let (rate, ()) = tokio::join!(rate_at(&remote, before, live), publish_all(&near, live));
        eprintln!("live: {rate:.0} messages a second");
        rate_live = rate;
    }
    remote.leave().await;
    let began = Instant::now();
    publish_all(&near, queued).await;
    eprintln!("{queued} queued in {:.1} s", began.elapsed().as_secs_f64());
    remote.come_back().await;
    let rate_drained = rate_at(&remote, 0.0, queued).await;
    let ratio = rate_drained / rate_live;
    eprintln!("drained: {rate_drained:.0} messages a second, {ratio:.2} of the live rate");
    let returned = [("connector", "plain")];
    let connected = near.metric("weir_bridge_connected_total", &returned).await;
    assert!(connected < 2.5, "{connected} links");
    // A few thousand messages of a debug build beside other tests measure nothing.
    if long().is_some() {
        assert!(ratio >= 0.5, "{ratio}");
    }
}
