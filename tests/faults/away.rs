//! The database is away for a long while under a steady load, and weir is killed in the midst of it.
//!
//! `WEIR_SOAK=1` (`make soak`): 5,000 messages a second for five minutes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep};
use weir_test_support::{Database, Postgres, Site, Weir, wait_until};

use crate::WEIR;

const PUBLISHERS: usize = 10;
/// How often a publisher sends what is due.
const TICK: Duration = Duration::from_millis(20);
/// A publisher waits when so many are not acknowledged.
const WINDOW: usize = 1000;
const MOST_MEMORY_KB: u64 = 300 * 1024;

struct Load {
    /// All publishers together.
    per_second: usize,
    seconds: usize,
    patience: Duration,
    /// What a release build has to drain at least, in rows a second.
    drain: Option<f64>,
}

impl Load {
    fn chosen() -> Self {
        if std::env::var_os("WEIR_SOAK").is_some() {
            Self {
                per_second: 5000,
                seconds: 300,
                patience: Duration::from_secs(600),
                drain: Some(30_000.0),
            }
        } else {
            Self {
                per_second: 1000,
                seconds: 10,
                patience: Duration::from_secs(120),
                drain: None,
            }
        }
    }

    fn each(&self) -> u32 {
        u32::try_from(self.per_second * self.seconds / PUBLISHERS).unwrap()
    }
}

/// One device: sends its numbers at a steady pace, and again what was not acknowledged when its connection broke.
struct Publisher {
    number: usize,
    /// Where weir listens at present.
    port: Arc<AtomicU16>,
    acknowledged: Arc<AtomicUsize>,
    /// By packet identifier, which grows with the number.
    in_flight: BTreeMap<u32, ()>,
    next: u32,
    /// How often each number was sent again.
    resent: HashMap<u32, usize>,
}

impl Publisher {
    async fn run(mut self, load: &Load) -> Self {
        let each_tick = load.per_second * usize::try_from(TICK.as_millis()).unwrap() / 1000;
        let each_tick = each_tick.div_ceil(PUBLISHERS);
        let mut ticks = interval(TICK);
        while self.next <= load.each() || !self.in_flight.is_empty() {
            let Some(mut stream) = self.connect().await else {
                sleep(TICK).await;
                continue;
            };
            let mut bytes = Vec::new();
            for n in self.in_flight.keys() {
                bytes.extend(self.packet(0x3a, *n));
                *self.resent.entry(*n).or_default() += 1;
            }
            let (mut read, mut write) = stream.split();
            let mut answers = Vec::new();
            loop {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
                bytes.clear();
                if self.next > load.each() && self.in_flight.is_empty() {
                    break;
                }
                tokio::select! {
                    count = read.read_buf(&mut answers) => {
                        if count.unwrap_or(0) == 0 {
                            break;
                        }
                        self.take(&mut answers);
                    }
                    _ = ticks.tick() => {
                        for _ in 0..each_tick {
                            if self.next > load.each() || self.in_flight.len() >= WINDOW {
                                break;
                            }
                            bytes.extend(self.packet(0x32, self.next));
                            self.in_flight.insert(self.next, ());
                            self.next += 1;
                        }
                    }
                }
            }
        }
        self
    }

    async fn connect(&self) -> Option<TcpStream> {
        let address = ("127.0.0.1", self.port.load(Ordering::Relaxed));
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut packet = b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02p".to_vec();
        packet.push(b'0' + u8::try_from(self.number).unwrap());
        stream.write_all(&packet).await.ok()?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.ok()?;
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        Some(stream)
    }

    fn packet(&self, first: u8, n: u32) -> Vec<u8> {
        let mut packet = vec![first, 0, 0, 1, b't'];
        packet.extend_from_slice(&identifier(n).to_be_bytes());
        let payload = format!(
            "{{\"p\":{},\"n\":{n},\"t\":21.5,\"s\":\"hall\"}}",
            self.number
        );
        packet.extend_from_slice(payload.as_bytes());
        packet[1] = u8::try_from(packet.len() - 2).unwrap();
        packet
    }

    fn take(&mut self, answers: &mut Vec<u8>) {
        let whole = answers.len() / 4 * 4;
        for puback in answers.drain(..whole).as_slice().chunks_exact(4) {
            assert_eq!(puback[..2], [0x40, 2]);
            let id = u16::from_be_bytes([puback[2], puback[3]]);
            let n = self
                .in_flight
                .keys()
                .copied()
                .find(|n| identifier(*n) == id);
            self.in_flight.remove(&n.expect("it was sent"));
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn identifier(n: u32) -> u16 {
    u16::try_from(n % 60_000 + 1).unwrap()
}

const TABLE: &str = "CREATE TABLE arrived (at bigserial, p int, n int, t double precision, s text)";

const RULE: &str = r#"
sql = '''SELECT payload.p AS p, payload.n AS n, payload.t AS t, payload.s AS s FROM "t"'''
[[sinks]]
id = "arrived"
connector = "db"
table = "arrived"
retry = { initial = "20ms", max = "1s" }
"#;

/// The most memory that a process has had, in kB.
fn most_memory(weir: &Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .expect("the system tells")
}

/// Waits until all rows are delivered; how many a second that were from the first one on.
async fn drained(weir: &Weir, rows: f64, load: &Load) -> f64 {
    let count = || weir.metric("weir_sink_rows_delivered_total", &[("sink", "arrived")]);
    wait_until("the first row", load.patience, || async {
        count().await > 0.5
    })
    .await;
    let (began, before) = (Instant::now(), count().await);
    wait_until("every row", load.patience, || async {
        count().await > rows - 0.5
    })
    .await;
    (rows - before) / began.elapsed().as_secs_f64()
}

/// Each message is there, in order, and as often as it was sent at most.
async fn each_is_a_row(database: &Database, publishers: &[Publisher], load: &Load) {
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT p, n FROM arrived) x";
    let messages = load.each() as u64 * PUBLISHERS as u64;
    assert_eq!(database.count(distinct).await, messages, "none is lost");
    let doubled =
        "SELECT p || ' ' || n || ' ' || count(*) FROM arrived GROUP BY p, n HAVING count(*) > 1";
    for line in database.psql(doubled).await.lines() {
        let mut fields = line
            .split_whitespace()
            .map(|field| field.parse::<usize>().unwrap());
        let (Some(p), Some(n), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let n = u32::try_from(n).unwrap();
        let sent = 1 + publishers[p].resent.get(&n).copied().unwrap_or_default();
        assert!(
            count <= sent,
            "{n} of {p} is {count} rows and was sent {sent} times"
        );
    }
    let late = "SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY p ORDER BY at) AS late FROM \
                (SELECT p, n, min(at) AS at FROM arrived GROUP BY p, n) f) x WHERE late";
    assert_eq!(database.count(late).await, 0, "order is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_load_over_a_kill_with_the_database_away_is_all_there_in_little_memory() {
    let load = Arc::new(Load::chosen());
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql(TABLE).await;
    let site = Site::new();
    site.connector(
        "db",
        &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
    );
    site.rule("arrived", RULE);
    let weir = site.start(WEIR).await;
    postgres.stop().await;

    let port = Arc::new(AtomicU16::new(weir.mqtt_port()));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let publishers = (0..PUBLISHERS).map(|number| {
        let publisher = Publisher {
            number,
            port: Arc::clone(&port),
            acknowledged: Arc::clone(&acknowledged),
            in_flight: BTreeMap::new(),
            next: 1,
            resent: HashMap::new(),
        };
        let load = Arc::clone(&load);
        tokio::spawn(async move { publisher.run(&load).await })
    });
    let publishers: Vec<_> = publishers.collect();
    let half = load.each() as usize * PUBLISHERS / 2;
    wait_until("half of the load", load.patience, || {
        let count = acknowledged.load(Ordering::Relaxed);
        async move { count >= half }
    })
    .await;
    let memory_before = most_memory(&weir);
    weir.kill().await;
    let weir = site.start(WEIR).await;
    port.store(weir.mqtt_port(), Ordering::Relaxed);
    let mut finished = Vec::new();
    for publisher in publishers {
        finished.push(publisher.await.unwrap());
    }
    // What an acknowledgement did not reach in time was accepted twice.
    let rows_in = weir
        .metric("weir_sink_rows_in_total", &[("sink", "arrived")])
        .await;
    postgres.start_again().await;
    let rate = drained(&weir, rows_in, &load).await;
    let memory = memory_before.max(most_memory(&weir));
    let resent: usize = finished
        .iter()
        .map(|publisher| publisher.resent.len())
        .sum();
    println!(
        "{rows_in} rows waited ({resent} messages were sent again), {rate:.0} rows a second were drained, {} MiB at most",
        memory / 1024
    );
    each_is_a_row(&database, &finished, &load).await;
    assert!(memory < MOST_MEMORY_KB, "{memory} kB");
    if let Some(least) = load.drain {
        assert!(rate >= least, "{rate} rows a second");
    }
    assert_eq!(weir.stop().await, Some(0));
}
