//! No answer leaves before what it promises is on the disk: shown by the system calls of the program itself.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Weir, free_port, wait_until};

use crate::WEIR;
use crate::trace::{Promise, Wrong, broken, calls};

const PATIENCE: Duration = Duration::from_secs(60);
const PUBLISHERS: usize = 6;
/// Messages of each publisher; fewer than the receive maximum.
const MESSAGES: u16 = 24;

/// A client of MQTT 3.1.1 that notes what each answer promises.
struct Client {
    stream: TcpStream,
    id: String,
    port: u16,
    promises: Vec<Promise>,
}

impl Client {
    /// Connects with a session that outlives the connection.
    async fn connect(weir: &Weir, id: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", weir.mqtt_port()))
            .await
            .unwrap();
        let mut client = Self {
            port: stream.local_addr().unwrap().port(),
            stream,
            id: id.to_owned(),
            promises: Vec::new(),
        };
        let request = framed(
            0x10,
            &[b"\x00\x04MQTT\x04\x00\x00\x00", &text(id)[..]].concat(),
        );
        let written = text(id)[1..].to_vec();
        client
            .ask("CONNACK", request, b"\x20\x02\x00\x00", &written)
            .await;
        client
    }

    async fn subscribe(&mut self, filter: &str) {
        let request = framed(0x82, &[b"\x00\x01", &text(filter)[..], b"\x02"].concat());
        self.ask(
            "SUBACK",
            request,
            b"\x90\x03\x00\x01\x02",
            filter.as_bytes(),
        )
        .await;
    }

    async fn unsubscribe(&mut self, filter: &str) {
        let request = framed(0xa2, &[b"\x00\x02", &text(filter)[..]].concat());
        self.ask("UNSUBACK", request, b"\xb0\x02\x00\x02", filter.as_bytes())
            .await;
    }

    /// PUBLISH without a wait for its answer.
    async fn publish(&mut self, first: u8, topic: &str, id: u16, payload: &str) {
        let [high, low] = id.to_be_bytes();
        let rest = [&text(topic)[..], &[high, low], payload.as_bytes()].concat();
        let request = framed(first, &rest);
        let (name, kind) = match first & 6 {
            2 => ("PUBACK", 0x40),
            _ => ("PUBREC", 0x50),
        };
        self.say(name, request, &[kind, 2, high, low], payload.as_bytes())
            .await;
    }

    /// A packet that has only an id, and what answers it. `kind` is the first byte of what is kept of it.
    async fn go_on(&mut self, name: &str, bytes: [u8; 2], id: [u8; 2], answer: u8, kind: u8) {
        let request = vec![bytes[0], bytes[1], id[0], id[1]];
        let written = [&[kind], &text(&self.id)[1..]].concat();
        self.ask(name, request, &[answer, 2, id[0], id[1]], &written)
            .await;
    }

    async fn say(&mut self, name: &str, request: Vec<u8>, answer: &[u8], written: &[u8]) {
        self.stream.write_all(&request).await.unwrap();
        self.promises.push(Promise {
            what: format!("{name} of {} ({answer:02x?})", self.id),
            port: self.port,
            request,
            answer: answer.to_vec(),
            written: written.to_vec(),
        });
    }

    async fn ask(&mut self, name: &str, request: Vec<u8>, answer: &[u8], written: &[u8]) {
        self.say(name, request, answer, written).await;
        assert_eq!(self.packet().await, answer, "{name} of {}", self.id);
    }

    /// The next packet.
    async fn packet(&mut self) -> Vec<u8> {
        let read = async {
            let mut packet = vec![0; 2];
            self.stream.read_exact(&mut packet).await.unwrap();
            assert!(packet[1] < 128, "packets are short");
            packet.resize(2 + usize::from(packet[1]), 0);
            self.stream.read_exact(&mut packet[2..]).await.unwrap();
            packet
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0, length], text.as_bytes()].concat()
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len()).unwrap();
    assert!(length < 128, "packets are short");
    [&[first, length], rest].concat()
}

/// Many publishers at once, whose commits the store puts together: what a session is owed, what is retained, and rows.
async fn publishers(weir: &Weir) -> Vec<Promise> {
    let publishers = (0..PUBLISHERS).map(|p| async move {
        let mut client = Client::connect(weir, &format!("publisher-{p}")).await;
        for n in 1..=MESSAGES {
            let payload = format!("{{\"n\":\"message {p}-{n}.\"}}");
            match n % 4 {
                0 => {
                    client
                        .publish(0x33, &format!("retained/{p}/{n}"), n, &payload)
                        .await
                }
                1 => client.publish(0x34, "wanted", n, &payload).await,
                2 => client.publish(0x32, "wanted", n, &payload).await,
                // Only the row is kept, which has no quotes around it.
                _ => {
                    client.publish(0x32, "row", n, &payload).await;
                    let last = client.promises.last_mut().unwrap();
                    last.written = format!("message {p}-{n}.").into_bytes();
                }
            }
        }
        let mut recs = Vec::new();
        for _ in 0..MESSAGES {
            let answer = client.packet().await;
            if answer[0] == 0x50 {
                recs.push([answer[2], answer[3]]);
            }
        }
        for id in recs {
            client.go_on("PUBCOMP", [0x62, 2], id, 0x70, 11).await;
        }
        client.promises
    });
    futures_util::future::join_all(publishers).await.concat()
}

/// A session that is owed messages and takes one of QoS 2.
async fn subscriber(weir: &Weir) -> Vec<Promise> {
    let mut keeper = Client::connect(weir, "keeper").await;
    keeper.subscribe("wanted").await;
    keeper.subscribe("for/a/while").await;
    keeper.unsubscribe("for/a/while").await;
    keeper.promises
}

async fn second_half(weir: &Weir) -> Vec<Promise> {
    let mut taker = Client::connect(weir, "taker").await;
    taker.subscribe("taken").await;
    let mut giver = Client::connect(weir, "giver").await;
    giver.publish(0x34, "taken", 1, "for the taker").await;
    giver.packet().await;
    let publish = taker.packet().await;
    assert_eq!(publish[0], 0x34);
    let id = [publish[9], publish[10]];
    taker.go_on("PUBREL", [0x50, 2], id, 0x62, 8).await;
    [taker.promises, giver.promises].concat()
}

/// Everything above with this `durability`: the promises, and what the system was asked for.
async fn traced(durability: &str) -> (Vec<Promise>, String) {
    let site = Site::new();
    // Outside of the site, which weir watches.
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    site.config(&format!("durability = \"{durability}\"\n"));
    let nobody = free_port();
    site.rule(
        "rows",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"row\"'''\n[[sinks]]\ntype = \"http\"\nurl = \"http://127.0.0.1:{nobody}/\"\n"
        ),
    );
    let weir = site.start_traced(WEIR, &trace).await;
    let mut promises = subscriber(&weir).await;
    promises.extend(publishers(&weir).await);
    promises.extend(second_half(&weir).await);
    let pid = weir.pid();
    weir.stop().await;
    (promises, whole(&trace, pid).await)
}

/// The trace, when it has its last line.
async fn whole(trace: &Path, pid: u32) -> String {
    // `PID +++ exited with …` or `… killed by …`; behind a number of fewer than five digits stand more spaces.
    let pid = pid.to_string();
    let is_last = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some(&pid) && words.next() == Some("+++")
    };
    let read = || std::fs::read_to_string(trace).unwrap_or_default();
    wait_until("the end of the trace", PATIENCE, || {
        let ended = read().lines().any(is_last);
        async move { ended }
    })
    .await;
    read()
}

/// [LESSON-13]
#[tokio::test]
async fn no_acknowledgement_leaves_before_what_it_promises_is_on_stable_storage() {
    let (promises, trace) = traced("fsync").await;
    let calls = calls(&trace).unwrap();
    let broken = broken(&calls, &promises);
    assert!(
        broken.is_empty(),
        "{} of {}; the first: {}",
        broken.len(),
        promises.len(),
        broken[0]
    );
    for kind in [
        "CONNACK", "SUBACK", "UNSUBACK", "PUBACK", "PUBREC", "PUBCOMP", "PUBREL",
    ] {
        assert!(
            promises
                .iter()
                .any(|promise| promise.what.starts_with(kind)),
            "{kind} was looked at"
        );
    }
}

/// The same eyes see that nothing is promised without a sync, so they would see it above.
#[tokio::test]
async fn without_a_sync_the_same_check_finds_every_acknowledgement_too_early() {
    for (durability, wrong) in [("os", Wrong::Unsynced), ("memory", Wrong::Unwritten)] {
        let (promises, trace) = traced(durability).await;
        let calls = calls(&trace).unwrap();
        let broken = broken(&calls, &promises);
        assert_eq!(broken.len(), promises.len(), "{durability}");
        for broken in broken {
            assert_eq!(broken.wrong, wrong, "{durability}: {broken}");
        }
    }
}
