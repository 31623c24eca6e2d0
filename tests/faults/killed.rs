//! weir itself is killed in the midst of it: what it has acknowledged is there when it starts again.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Subscriber, Weir, mosquitto_pub, wait_until};

use crate::WEIR;

/// A client of MQTT 3.1.1 that says exactly what it is told to.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects with a session that outlives the connection.
    pub(crate) async fn connect(weir: &Weir, id: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", weir.mqtt_port()))
            .await
            .expect("weir listens");
        let mut packet = b"\x00\x04MQTT\x04\x00\x00\x00\x00".to_vec();
        packet.push(u8::try_from(id.len()).expect("ids are short"));
        packet.extend_from_slice(id.as_bytes());
        stream
            .write_all(&framed(0x10, &packet))
            .await
            .expect("it is sent");
        let mut client = Self(stream);
        assert_eq!(client.answer::<4>().await.expect("CONNACK")[3], 0);
        client
    }

    async fn subscribe(&mut self, topic: &str) {
        let mut packet = b"\x00\x01\x00".to_vec();
        packet.push(u8::try_from(topic.len()).expect("topics are short"));
        packet.extend_from_slice(topic.as_bytes());
        packet.push(2);
        self.0
            .write_all(&framed(0x82, &packet))
            .await
            .expect("it is sent");
        assert_eq!(self.answer::<5>().await.expect("SUBACK")[4], 2);
    }

    /// PUBLISH with this first byte; gives the acknowledgement, if one comes.
    pub(crate) async fn publish(&mut self, first: u8, id: u16, payload: &str) -> Option<[u8; 4]> {
        let mut packet = b"\x00\x01t".to_vec();
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(payload.as_bytes());
        self.0.write_all(&framed(first, &packet)).await.ok()?;
        self.answer().await
    }

    async fn answer<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(bytes)
    }
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len()).ok().filter(|length| *length < 128);
    let mut packet = vec![first, length.expect("packets are short")];
    packet.extend_from_slice(rest);
    packet
}

/// A session that wants everything on `t`, and is not there.
async fn keeper(weir: &Weir) {
    let mut keeper = Client::connect(weir, "keeper").await;
    keeper.subscribe("t").await;
}

/// Everything that waits for the keeper, until nothing more comes.
async fn kept(weir: &Weir) -> Vec<String> {
    let args = ["-V", "mqttv311", "-c", "-i", "keeper", "-q", "2"];
    let mut subscriber = Subscriber::start(weir.mqtt_port(), "t", &args).await;
    let received = subscriber.all_within(Duration::from_secs(2)).await;
    received
        .iter()
        .map(|message| message.payload.clone())
        .collect()
}

/// [LESSON-13]
#[tokio::test]
async fn what_was_acknowledged_is_there_after_kills_in_the_midst_of_it() {
    let site = Site::new();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut weir = site.start(WEIR).await;
    keeper(&weir).await;
    for life in 0..3 {
        let mut publishers = Vec::new();
        for name in 0..4 {
            let mut client = Client::connect(&weir, &format!("p{name}")).await;
            let acknowledged = Arc::clone(&acknowledged);
            publishers.push(tokio::spawn(async move {
                for number in 1..2000 {
                    let payload = format!("{life}-{name}-{number}");
                    match client.publish(0x32, number, &payload).await {
                        Some([0x40, ..]) => acknowledged.lock().unwrap().push(payload),
                        _ => return,
                    }
                }
            }));
        }
        let enough = 80 * (life + 1);
        wait_until("some acknowledgements", Duration::from_secs(30), || {
            let count = acknowledged.lock().unwrap().len();
            async move { count >= enough }
        })
        .await;
        weir.kill().await;
        for publisher in publishers {
            publisher.await.unwrap();
        }
        weir = site.start(WEIR).await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(
        acknowledged.len() < 1000,
        "the session's queue holds them all"
    );
    let kept = kept(&weir).await;
    for payload in &acknowledged {
        assert!(
            kept.contains(payload),
            "{payload} was acknowledged and is lost"
        );
    }
    for name in 0..4 {
        let numbers: Vec<(u32, u32)> = kept
            .iter()
            .filter_map(|payload| {
                let mut parts = payload.split('-').map(|part| part.parse::<u32>().unwrap());
                let (life, own) = (parts.next()?, parts.next()?);
                (own == name).then_some((life, parts.next()?))
            })
            .collect();
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "publisher {name}: {numbers:?}"
        );
    }
}

/// [LESSON-12]
#[tokio::test]
async fn a_message_of_qos_2_comes_once_though_weir_was_killed_between_its_packets() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    keeper(&weir).await;
    let mut publisher = Client::connect(&weir, "p").await;
    let pubrec = publisher.publish(0x34, 7, "once").await;
    assert_eq!(pubrec, Some([0x50, 2, 0, 7]));
    weir.kill().await;

    let weir = site.start(WEIR).await;
    let mut publisher = Client::connect(&weir, "p").await;
    let again = publisher.publish(0x3c, 7, "once").await;
    assert_eq!(
        again,
        Some([0x50, 2, 0, 7]),
        "the duplicate is acknowledged"
    );
    publisher.0.write_all(b"\x62\x02\x00\x07").await.unwrap();
    assert_eq!(publisher.answer().await, Some([0x70, 2, 0, 7]));
    assert_eq!(kept(&weir).await, ["once"]);
}

#[tokio::test]
async fn retained_messages_outlive_a_kill_and_deleted_ones_stay_deleted() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for (topic, payload) in [("stays", "1"), ("goes", "2"), ("goes", "")] {
        let args = ["-t", topic, "-m", payload, "-r", "-q", "1"];
        let sent = mosquitto_pub(weir.mqtt_port(), &args).await;
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    }
    weir.kill().await;
    let weir = site.start(WEIR).await;
    let mut subscriber = Subscriber::start(weir.mqtt_port(), "#", &[]).await;
    let received = subscriber.all_within(Duration::from_secs(1)).await;
    let topics: Vec<&str> = received
        .iter()
        .map(|message| message.topic.as_str())
        .collect();
    assert_eq!(topics, ["stays"]);
}

/// [LESSON-10]
#[tokio::test]
async fn a_torn_end_of_the_store_is_cut_and_damage_inside_is_named_with_a_copy() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    keeper(&weir).await;
    let mut publisher = Client::connect(&weir, "p").await;
    for number in 1..=20 {
        publisher
            .publish(0x32, number, &format!("{number}"))
            .await
            .unwrap();
    }
    weir.kill().await;
    let last = segments(&site).pop().unwrap();
    OpenOptions::new()
        .append(true)
        .open(&last)
        .unwrap()
        .write_all(b"\xf0wfr torn")
        .unwrap();
    let weir = site.start(WEIR).await;
    wait_until("a word about it", Duration::from_secs(10), || {
        let printed = weir.printed();
        async move { printed.contains("a crash has torn") }
    })
    .await;
    weir.kill().await;

    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let weir = site.start(WEIR).await;
    wait_until("a word about it", Duration::from_secs(10), || {
        let printed = weir.printed();
        async move { printed.contains("E1604") }
    })
    .await;
    let name = last.file_name().unwrap().to_string_lossy().into_owned();
    assert!(last.with_file_name(format!("damaged-{name}")).exists());
    let kept = kept(&weir).await;
    assert!(kept.len() >= 18, "what is sound is there: {kept:?}");
}

fn segments(site: &Site) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(site.path().join("data/store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("log-")
        })
        .filter(|path| fs::metadata(path).unwrap().len() > 8)
        .collect();
    files.sort();
    files
}
