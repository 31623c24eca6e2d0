//! Restarts in the midst of deliveries.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_test_support::{Site, Weir};

use crate::WEIR;
use crate::killed::Client;

const PATIENCE: Duration = Duration::from_secs(20);

/// A subscriber of MQTT 3.1.1 with a session that outlives the connection.
struct Subscriber(TcpStream);

impl Subscriber {
    /// Connects; says whether the session was there.
    async fn connect(weir: &Weir) -> (Self, bool) {
        let stream = TcpStream::connect(("127.0.0.1", weir.mqtt_port()))
            .await
            .unwrap();
        let mut client = Self(stream);
        client
            .say(b"\x10\x10\x00\x04MQTT\x04\x00\x00\x00\x00\x04sub1")
            .await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        (client, connack[2] == 1)
    }

    async fn subscribe(&mut self) {
        self.say(b"\x82\x06\x00\x01\x00\x01t\x02").await;
        assert_eq!(self.packet().await, b"\x90\x03\x00\x01\x02");
    }

    async fn say(&mut self, packet: &[u8]) {
        self.0.write_all(packet).await.unwrap();
    }

    async fn packet(&mut self) -> Vec<u8> {
        let read = async {
            let mut packet = vec![0; 2];
            self.0.read_exact(&mut packet).await.unwrap();
            packet.resize(2 + usize::from(packet[1]), 0);
            self.0.read_exact(&mut packet[2..]).await.unwrap();
            packet
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// The next PUBLISH: its flags, packet identifier and payload.
    async fn publish(&mut self) -> (u8, [u8; 2], String) {
        let packet = self.packet().await;
        assert_eq!(packet[0] >> 4, 3, "{packet:02x?}");
        let payload = String::from_utf8(packet[7..].to_vec()).unwrap();
        (packet[0] & 15, [packet[5], packet[6]], payload)
    }
}

/// [LESSON-11]
#[tokio::test]
async fn what_comes_between_a_restart_and_the_return_of_its_subscriber_is_kept() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let (mut subscriber, _) = Subscriber::connect(&weir).await;
    subscriber.subscribe().await;
    weir.kill().await;
    let weir = site.start(WEIR).await;
    let mut publisher = Client::connect(&weir, "pub").await;
    for n in 1..=5 {
        let answer = publisher.publish(0x32, n, &n.to_string()).await;
        assert_eq!(answer.expect("PUBACK")[0], 0x40);
    }
    // And over one more, with nobody there in between.
    weir.kill().await;
    let weir = site.start(WEIR).await;
    let mut publisher = Client::connect(&weir, "pub").await;
    let answer = publisher.publish(0x32, 6, "6").await;
    assert_eq!(answer.expect("PUBACK")[0], 0x40);
    let (mut subscriber, present) = Subscriber::connect(&weir).await;
    assert!(present);
    for n in 1..=6 {
        assert_eq!(subscriber.publish().await.2, n.to_string());
    }
}

/// [LESSON-12]
#[tokio::test]
async fn after_a_kill_pubrel_comes_again_and_no_packet_identifier_is_used_twice() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let (mut subscriber, _) = Subscriber::connect(&weir).await;
    subscriber.subscribe().await;
    let mut publisher = Client::connect(&weir, "pub").await;
    for n in 1..=3 {
        let answer = publisher.publish(0x34, n, &n.to_string()).await;
        assert_eq!(answer.expect("PUBREC")[0], 0x50);
    }
    let (_, first, payload) = subscriber.publish().await;
    assert_eq!(payload, "1");
    let (_, second, _) = subscriber.publish().await;
    let (_, third, _) = subscriber.publish().await;
    // The first gets as far as PUBREL, of the others nothing was heard.
    subscriber.say(&[0x50, 2, first[0], first[1]]).await;
    assert_eq!(subscriber.packet().await, [0x62, 2, first[0], first[1]]);
    weir.kill().await;

    let weir = site.start(WEIR).await;
    let mut publisher = Client::connect(&weir, "pub").await;
    let answer = publisher.publish(0x34, 4, "4").await;
    assert_eq!(answer.expect("PUBREC")[0], 0x50);
    let (mut subscriber, present) = Subscriber::connect(&weir).await;
    assert!(present);
    let (mut released, mut published) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let packet = subscriber.packet().await;
        match packet[0] {
            0x62 => released.push([packet[2], packet[3]]),
            _ => published.push((
                packet[0],
                [packet[5], packet[6]],
                String::from_utf8(packet[7..].to_vec()).unwrap(),
            )),
        }
    }
    assert_eq!(released, [first], "and not the message once more");
    let fourth = published[2].1;
    assert_eq!(
        published,
        [
            (0x3c, second, "2".to_owned()),
            (0x3c, third, "3".to_owned()),
            (0x34, fourth, "4".to_owned())
        ]
    );
    assert!(![first, second, third].contains(&fourth));
}
