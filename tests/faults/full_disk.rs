//! The disk is full: clients hear that nothing more can be kept, or wait, and all goes on when there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Subscriber, Weir, wait_until};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(30);

/// A small disk of its own in place of a site's data folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    ///
    /// # Panics
    /// In CI (`CI` is set) nothing may be left out.
    #[expect(clippy::print_stderr, reason = "what is not tested has to be seen")]
    fn mount(site: &Site) -> Option<Self> {
        let place = site.path().join("data");
        fs::create_dir_all(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "weir-test"])
            .arg(&place)
            .output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self(place)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let what = format!(
            "NOT TESTED: a small disk cannot be mounted here ({why}), so nobody knows what weir does on a full one; \
             run this test as root, or in a container that may mount a tmpfs"
        );
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci.is_empty()),
            "{what}"
        );
        // Past the harness, which shows nothing of tests that pass.
        let terminal = File::options().append(true).open("/dev/tty");
        if let Ok(mut terminal) = terminal {
            let _ = writeln!(terminal, "\n{what}\n");
        }
        eprintln!("{what}");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for bytes in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![7; bytes]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A client that says exactly what it is told to.
struct Client(TcpStream);

impl Client {
    /// Connects; with 3.1.1 the session outlives the connection.
    async fn connect(weir: &Weir, version: u8, id: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", weir.mqtt_port()))
            .await
            .unwrap();
        let mut packet = b"\x00\x04MQTT".to_vec();
        packet.extend_from_slice(&[version, 0, 0, 0]);
        if version == 5 {
            packet.push(0);
        }
        packet.extend_from_slice(&[0, u8::try_from(id.len()).unwrap()]);
        packet.extend_from_slice(id.as_bytes());
        stream.write_all(&framed(0x10, &packet)).await.unwrap();
        let mut client = Self(stream);
        assert_eq!(client.answer().await[..2], [0x20, 0]);
        client
    }

    async fn say(&mut self, first: u8, rest: &[u8]) {
        self.0.write_all(&framed(first, rest)).await.unwrap();
    }

    /// The first byte of the next packet, and what stands behind its length, without the flags of CONNACK.
    async fn answer(&mut self) -> Vec<u8> {
        let read = async {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).await.unwrap();
            assert!(head[1] < 128, "answers are short");
            let mut rest = vec![0; usize::from(head[1])];
            self.0.read_exact(&mut rest).await.unwrap();
            if head[0] == 0x20 {
                rest.remove(0);
            }
            rest.insert(0, head[0]);
            rest
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }

    async fn publish(&mut self, version: u8, id: u16, payload: &str) {
        let mut packet = b"\x00\x01t".to_vec();
        packet.extend_from_slice(&id.to_be_bytes());
        if version == 5 {
            packet.push(0);
        }
        packet.extend_from_slice(payload.as_bytes());
        self.say(0x32, &packet).await;
    }
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len()).unwrap();
    assert!(length < 128, "packets are short");
    [&[first, length], rest].concat()
}

async fn until_full(weir: &Weir, is: f64) {
    wait_until("the metric says so", PATIENCE, || async {
        (weir.metric("weir_store_full", &[]).await - is).abs() < 0.5
    })
    .await;
}

const RULE: &str = r#"
sql = '''SELECT payload.n AS n FROM "t" WHERE payload.n > 0'''
[[sinks]]
id = "far"
type = "http"
url = "http://127.0.0.1:9/"
"#;

#[tokio::test]
async fn who_publishes_what_only_a_sink_keeps_is_told_or_waits_too() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site) else {
        return;
    };
    site.config("store.reserve = \"4MiB\"\n");
    site.rule("rows", RULE);
    let weir = site.start(WEIR).await;
    let mut new = Client::connect(&weir, 5, "new").await;
    let mut old = Client::connect(&weir, 4, "old").await;
    disk.fill();
    let (mut id, mut rows) = (0, 0.0);
    loop {
        id += 1;
        new.publish(5, id, "{\"n\":1}").await;
        let answer = new.answer().await;
        match answer.get(3) {
            None | Some(0x00 | 0x10) => rows += 1.0,
            Some(reason) => {
                assert_eq!(*reason, 0x97, "quota exceeded");
                break;
            }
        }
    }
    until_full(&weir, 1.0).await;
    // QoS 2 too, and its identifier is free again.
    new.say(0x34, b"\x00\x01t\x7f\x00\x00{\"n\":1}").await;
    assert_eq!(new.answer().await[..4], [0x50, 0x7f, 0x00, 0x97]);
    // What the rule lets pass by needs no room.
    new.publish(5, id, "{\"n\":0}").await;
    let answer = new.answer().await;
    assert!(
        matches!(answer.get(3), None | Some(0x00 | 0x10)),
        "{answer:?}"
    );
    old.publish(4, 1, "{\"n\":1}").await;
    old.say(0xc0, b"").await;
    assert_eq!(
        old.answer().await,
        [0xd0],
        "PINGRESP, and no PUBACK before it"
    );

    disk.make_room();
    assert_eq!(old.answer().await, [0x40, 0, 1], "PUBACK");
    rows += 1.0;
    let sink = [("rule", "rows"), ("sink", "far")];
    let got = weir.metric("weir_sink_rows_in_total", &sink).await;
    assert!(
        (got - rows).abs() < 0.1,
        "{got} rows of {rows} that were acknowledged"
    );
    weir.kill().await;
    let weir = site.start(WEIR).await;
    let kept = weir.metric("weir_sink_rows_in_total", &sink).await;
    assert!((kept - rows).abs() < 0.1, "{kept} rows after a kill");
    drop(weir);
}

fn has_reserve(disk: &Path) -> bool {
    disk.join("store/reserve").exists()
}

/// [LESSON-20]
#[tokio::test]
async fn on_a_full_disk_publishers_are_told_or_wait_and_all_goes_on_when_there_is_room() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site) else {
        return;
    };
    site.config("store.reserve = \"4MiB\"\nmqtt.max_queued = 60_000\n");
    let weir = site.start(WEIR).await;
    assert!(has_reserve(&disk.0));
    let mut keeper = Client::connect(&weir, 4, "keeper").await;
    keeper.say(0x82, b"\x00\x01\x00\x01t\x01").await;
    assert_eq!(keeper.answer().await, [0x90, 0, 1, 1]);
    drop(keeper);
    let mut new = Client::connect(&weir, 5, "new").await;
    let mut old = Client::connect(&weir, 4, "old").await;
    let mut accepted = Vec::new();

    disk.fill();
    // What finds no room at first is written into the reserve, and from then on publishers are told.
    let mut id = 0;
    loop {
        id += 1;
        let payload = format!("new-{id}");
        new.publish(5, id, &payload).await;
        let answer = new.answer().await;
        assert_eq!(answer[0], 0x40);
        match answer.get(3) {
            None | Some(0) => accepted.push(payload),
            Some(reason) => {
                assert_eq!(*reason, 0x97, "quota exceeded");
                break;
            }
        }
    }
    until_full(&weir, 1.0).await;
    assert!(weir.printed().contains("E1605"));
    assert!(!has_reserve(&disk.0), "what was accepted needs the room");
    old.publish(4, 1, "old-1").await;
    accepted.push("old-1".to_owned());
    // Only who needs the store waits.
    old.say(0xc0, b"").await;
    assert_eq!(
        old.answer().await,
        [0xd0],
        "PINGRESP, and no PUBACK before it"
    );
    new.say(0x30, b"\x00\x01q\x00x").await;
    new.say(0xc0, b"").await;
    assert_eq!(new.answer().await, [0xd0]);

    disk.make_room();
    assert_eq!(old.answer().await, [0x40, 0, 1], "PUBACK");
    until_full(&weir, 0.0).await;
    assert!(has_reserve(&disk.0));
    assert_eq!(weir.printed().matches("E1605").count(), 1, "told once");
    new.publish(5, id, "new-again").await;
    assert!(matches!(
        new.answer().await[..],
        [0x40, _, _] | [0x40, _, _, 0]
    ));
    accepted.push("new-again".to_owned());
    weir.kill().await;

    disk.fill();
    let weir = site.start(WEIR).await;
    until_full(&weir, 1.0).await;
    let args = ["-V", "mqttv311", "-c", "-i", "keeper", "-q", "1"];
    let mut subscriber = Subscriber::start(weir.mqtt_port(), "t", &args).await;
    let kept: Vec<String> = subscriber
        .all_within(Duration::from_secs(3))
        .await
        .iter()
        .map(|message| message.payload.clone())
        .collect();
    assert!(
        kept == accepted,
        "all that was acknowledged and nothing that was refused: {} and {}",
        kept.len(),
        accepted.len()
    );
    drop(subscriber);
    drop(weir);
}
