//! Clients that are a burden: what they cost is bounded, and the others are served meanwhile.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir_test_support::{Site, Weir, wait_until};

use crate::WEIR;
use crate::many::mib_of;

/// A test that takes longer than this hangs.
const SOON: Duration = Duration::from_secs(60);

fn text(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = rest.len();
    while length >= 128 {
        bytes.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(rest);
    bytes
}

fn connect_packet(id: &str, password: &[u8]) -> Vec<u8> {
    let name_and_password = [text(b"u"), text(password)].concat();
    let head = b"\x00\x04MQTT\x04\xC2\x00\x00";
    framed(
        0x10,
        &[&head[..], &text(id.as_bytes()), &name_and_password].concat(),
    )
}

fn address(weir: &Weir) -> std::net::SocketAddr {
    ([127, 0, 0, 1], weir.mqtt_port()).into()
}

/// Connects over `socket` and reads CONNACK.
async fn connect_over(socket: TcpSocket, weir: &Weir, id: &str) -> TcpStream {
    let mut stream = socket.connect(address(weir)).await.unwrap();
    stream.write_all(&connect_packet(id, b"p")).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

async fn connect(weir: &Weir, id: &str) -> TcpStream {
    connect_over(TcpSocket::new_v4().unwrap(), weir, id).await
}

async fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) {
    let rest = [b"\x00\x01", &text(filter.as_bytes())[..], &[qos]].concat();
    stream.write_all(&framed(0x82, &rest)).await.unwrap();
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).await.unwrap();
    assert_eq!(suback, [0x90, 3, 0, 1, qos]);
}

/// One whole packet, without its first byte and length.
async fn packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.unwrap();
        length |= usize::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.unwrap();
    (first, rest)
}

/// A client that publishes to itself: whoever is a burden to the others is one to it.
struct Good {
    stream: TcpStream,
    next: u16,
}

impl Good {
    async fn at(weir: &Weir) -> Self {
        let mut stream = connect(weir, "good").await;
        subscribe(&mut stream, "good", 1).await;
        Self { stream, next: 1 }
    }

    /// Sends a message at QoS 1, gets it, and its acknowledgement.
    async fn is_served(&mut self) {
        let id = self.next.to_be_bytes();
        self.next = self.next % 60_000 + 1;
        let rest = [&text(b"good")[..], &id, b"hello"].concat();
        self.stream.write_all(&framed(0x32, &rest)).await.unwrap();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (first, rest) = packet(&mut self.stream).await;
            if first == 0x32 {
                assert!(rest.ends_with(b"hello"));
                let puback = framed(0x40, &rest[6..8]);
                self.stream.write_all(&puback).await.unwrap();
            }
            kinds.push(first);
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [0x32, 0x40]);
    }
}

/// As many open files as the system allows this process; how many connections it can hold beside its other files.
fn room_for_connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let room = maximum.map_or(u64::MAX, |maximum| maximum.saturating_sub(200));
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[tokio::test]
async fn a_crowd_that_never_ends_its_connect_costs_what_it_sent_and_is_closed_at_the_deadline() {
    let soak = std::env::var_os("WEIR_SOAK").is_some();
    let number = room_for_connections(if soak { 10_000 } else { 2000 });
    let site = Site::new();
    site.config("mqtt.connect_timeout = \"8s\"");
    let weir = site.start(WEIR).await;
    let mut good = Good::at(&weir).await;
    good.is_served().await;
    let before = mib_of(&weir, "VmRSS:");
    let whole = connect_packet("stranger", &[b'x'; 1000]);
    let mut crowd = Vec::new();
    for stranger in 0..number {
        let mut stream = TcpStream::connect(address(&weir)).await.unwrap();
        // Half of them say nothing at all.
        if stranger % 2 == 0 {
            stream.write_all(&whole[..900]).await.unwrap();
        }
        crowd.push(stream);
        if stranger % 100 == 0 {
            good.is_served().await;
        }
    }
    let most = mib_of(&weir, "VmRSS:");
    // A connection, its task, and 1 KiB of what it said.
    let allowed = before + 16 + number as u64 * 12 / 1024;
    assert!(most < allowed, "{before} MiB, then {most} MiB");
    for mut stream in crowd {
        let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await;
        let ended = ended.expect("closed at the deadline");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    good.is_served().await;
    let open = async || weir.metric("mqtt_connections_size", &[]).await == 1.0;
    wait_until("the last of them to be counted as closed", SOON, open).await;
}

#[tokio::test]
async fn a_client_that_reads_byte_by_byte_gets_what_it_reads_and_costs_a_bounded_queue() {
    const MESSAGES: u16 = 2000;
    const SIZE: usize = 50_000;
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let mut good = Good::at(&weir).await;
    let mut slow = Vec::new();
    for qos in [0, 1] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = connect_over(socket, &weir, &format!("slow-{qos}")).await;
        subscribe(&mut stream, "much", qos).await;
        slow.push((stream, Vec::new()));
    }
    let mut publisher = connect(&weir, "publisher").await;
    let before = mib_of(&weir, "VmRSS:");
    let payload = vec![b'x'; SIZE];
    for number in 1..=MESSAGES {
        let rest = [&text(b"much")[..], &number.to_be_bytes(), &payload].concat();
        publisher.write_all(&framed(0x32, &rest)).await.unwrap();
        let (first, _) = packet(&mut publisher).await;
        assert_eq!(first, 0x40);
        for (stream, got) in &mut slow {
            got.push(stream.read_u8().await.unwrap());
        }
        if number % 100 == 0 {
            good.is_served().await;
        }
    }
    let most = mib_of(&weir, "VmRSS:");
    // 100 MB went to each. What waits is bounded by `max_outbox_bytes` and `max_queued_bytes`.
    assert!(most < before + 48, "{before} MiB, then {most} MiB");
    for (qos, (_, got)) in (0_u8..).zip(&slow) {
        let length = 2 + 4 + 2 * usize::from(qos) + SIZE;
        assert_eq!(
            got[0],
            0x30 | qos << 1,
            "the beginning of the first message"
        );
        assert_eq!(got.len(), usize::from(MESSAGES));
        let head = got[1..].iter().position(|byte| *byte < 128).unwrap() + 2;
        let said = got[1..head].iter().rev();
        let said = said.fold(0, |sum, byte| sum << 7 | usize::from(byte & 127));
        assert_eq!(said, length);
    }
    let dropped = weir
        .metric("weir_messages_dropped_total", &[("reason", "outbox_full")])
        .await;
    assert!(dropped > 0.0, "QoS 0 is dropped for who does not read");
}

/// A SUBSCRIBE for twenty filters that nobody else has.
fn twenty_filters(number: u16) -> Vec<u8> {
    let filters = (0..20).flat_map(|at| {
        let filter = format!("hostile/{number}/{at}/+");
        [text(filter.as_bytes()), vec![0]].concat()
    });
    let rest: Vec<u8> = number.to_be_bytes().into_iter().chain(filters).collect();
    framed(0x82, &rest)
}

#[tokio::test]
async fn a_client_that_subscribes_to_100_000_filters_gets_as_many_as_one_may_have() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let mut good = Good::at(&weir).await;
    let before = mib_of(&weir, "VmRSS:");
    let mut hostile = connect(&weir, "hostile").await;
    let (mut granted, mut refused) = (0, 0);
    for number in 1..=5000 {
        hostile.write_all(&twenty_filters(number)).await.unwrap();
        let (first, suback) = packet(&mut hostile).await;
        assert_eq!((first, &suback[..2]), (0x90, &number.to_be_bytes()[..]));
        for code in &suback[2..] {
            match code {
                0 => granted += 1,
                0x80 => refused += 1,
                other => panic!("{other:#x}"),
            }
        }
        if number % 100 == 0 {
            good.is_served().await;
        }
    }
    assert_eq!((granted, refused), (1000, 99_000));
    let most = mib_of(&weir, "VmRSS:");
    assert!(most < before + 24, "{before} MiB, then {most} MiB");
    let quota = [("reason", "quota_exceeded")];
    assert_eq!(
        weir.metric("weir_subscribes_refused_total", &quota).await,
        99_000.0
    );
}
