//! What the broker keeps, on a disk that loses power and on one whose bytes change: whatever was acknowledged is there as
//! it was, and nothing is there that never was.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weir_mqtt::{PacketId, QoS, SubscriptionFilter, TopicName, Utf8};
use weir_sinks::RowLog;
use weir_store::{Options, Unreliable};

use super::disk::{Disk, Recovered, Reserve};
use super::{
    Durability, Persist, SessionId, State, Storage as _, StorageError, Ticket, Waiting, Waits,
};
use crate::core::message::Message;
use crate::core::subscriptions::SubscriptionOptions;
use crate::core::will::Will;

const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];
const TOPICS: [&str; 3] = ["t", "t/u", "v"];
const SINK: &str = "rule/sink";

fn open(
    disk: &Unreliable,
    durability: Durability,
    options: Options,
) -> Result<(Disk, Recovered), StorageError> {
    let reserve = Reserve {
        file: PathBuf::new(),
        bytes: 0,
    };
    Disk::open_with(disk.clone(), reserve, durability, options)
}

fn loaded(storage: &Disk) -> State {
    let mut state = State::default();
    storage
        .load(&mut |record| state.apply(record))
        .expect("it was read when it was opened");
    state
}

/// A state to be compared: its records, in an order of their own.
fn told(state: &State) -> Vec<String> {
    let mut records = Vec::new();
    state.records(|record| records.push(format!("{record:?}")));
    records.sort();
    records
}

/// Waits for a batch: whether it was kept.
fn kept(ticket: &Ticket) -> bool {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        match ticket.poll_ready(&Context::from_waker(&waker)) {
            Poll::Ready(kept) => return kept.is_ok(),
            Poll::Pending => std::thread::park(),
        }
    }
}

fn message(topic: &str, payload: String, retain: bool) -> Arc<Message> {
    let topic = TopicName::new(topic).expect("it is a topic");
    Arc::new(Message::new(
        topic,
        payload.into(),
        QoS::AtLeastOnce,
        retain,
    ))
}

/// Makes records as a broker does: numbers only grow, and what ends has begun.
#[derive(Default)]
struct Maker {
    epoch: u64,
    epochs: [u64; 4],
    number: u64,
    change: u64,
    rows: u64,
}

impl Maker {
    /// What one step of a connection makes; `queue` takes rows.
    fn batch(&mut self, queue: Option<u64>, rng: &mut StdRng) -> Vec<Persist> {
        let mut batch = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            self.record(queue, rng, &mut batch);
        }
        batch
    }

    fn session(&self, client: usize) -> SessionId {
        SessionId {
            client_id: Utf8::from(CLIENTS[client]),
            epoch: self.epochs[client],
        }
    }

    fn record(&mut self, queue: Option<u64>, rng: &mut StdRng, batch: &mut Vec<Persist>) {
        let client = rng.random_range(0..CLIENTS.len());
        let session = self.session(client);
        let topic = TOPICS[rng.random_range(0..TOPICS.len())];
        let filter = SubscriptionFilter::parse(topic).expect("it is a filter");
        self.number += 1;
        let number = self.number;
        let among = rng.random_range(1..=number);
        let size = if rng.random_ratio(1, 15) { 3000 } else { 40 };
        let payload = format!("{number} {}", "x".repeat(rng.random_range(0..size)));
        let packet_id = PacketId::new(rng.random_range(1..6)).expect("not 0");
        match rng.random_range(0..16) {
            0 => {
                self.epoch += 1;
                self.epochs[client] = self.epoch;
                batch.push(Persist::Session {
                    session: self.session(client),
                    expiry_interval_s: rng.random_range(1..1000),
                });
            }
            1 => batch.push(Persist::Disconnected {
                session,
                at: number,
            }),
            2 if rng.random_ratio(1, 4) => batch.push(Persist::SessionEnded { session }),
            3 => batch.push(Persist::Subscribed {
                session,
                filter,
                options: SubscriptionOptions {
                    qos: QoS::AtLeastOnce,
                    no_local: rng.random(),
                    retain_as_published: rng.random(),
                    id: None,
                },
            }),
            4 => batch.push(Persist::Unsubscribed { session, filter }),
            5 => batch.push(Persist::InFlight {
                session,
                number: among,
                packet_id,
            }),
            6 => batch.push(Persist::Released {
                session,
                number: among,
            }),
            7 => batch.push(Persist::Settled {
                session,
                number: among,
            }),
            8 => batch.push(Persist::Received { session, packet_id }),
            9 => batch.push(Persist::ReceivedDone { session, packet_id }),
            10 => {
                self.change += 1;
                let change = self.change;
                batch.push(match rng.random_ratio(1, 3) {
                    true => Persist::RetainedCleared {
                        topic: Utf8::from(topic),
                        change,
                    },
                    false => Persist::Retained {
                        message: message(topic, payload, true),
                        change,
                    },
                });
            }
            11 => {
                let will = Will::restored((*message(topic, payload, false)).clone(), 3);
                let will = rng.random::<bool>().then(|| Box::new(will));
                batch.push(Persist::Will { session, will });
            }
            12 => batch.push(Persist::Delayed {
                number,
                at: number,
                message: message(topic, payload, false),
            }),
            13 => batch.push(Persist::DelayedDone { number: among }),
            14 => {
                // One message for several sessions stands once.
                let message = message(topic, payload, false);
                for client in 0..rng.random_range(1..4) {
                    batch.push(Persist::Owed {
                        session: self.session(client),
                        waiting: Waiting {
                            message: Arc::clone(&message),
                            qos: QoS::ExactlyOnce,
                            retain: false,
                            subscription_ids: None,
                            number,
                            group: None,
                        },
                    });
                }
            }
            _ => {
                if let Some(queue) = queue {
                    self.rows += 1;
                    let row = Bytes::from(format!("row {} {payload}", self.rows));
                    batch.push(Persist::Row { queue, row });
                }
            }
        }
    }
}

fn rows_of(batch: &[Persist]) -> impl Iterator<Item = Bytes> {
    batch.iter().filter_map(|record| match record {
        Persist::Row { row, .. } => Some(row.clone()),
        _ => None,
    })
}

/// What must be there at the next start.
#[derive(Default)]
struct Promised {
    state: State,
    /// Every row that was kept, in order, settled or not, and how many from the front may be settled.
    rows: Vec<Bytes>,
    settled: usize,
}

impl Promised {
    fn with(&self, batches: &[&Vec<Persist>]) -> Self {
        let mut state = self.state.clone();
        let mut rows = self.rows.clone();
        for batch in batches {
            rows.extend(rows_of(batch));
            batch.iter().for_each(|record| state.apply(record.clone()));
        }
        Self {
            state,
            rows,
            settled: self.settled,
        }
    }

    fn keep(&mut self, batch: Vec<Persist>) {
        self.rows.extend(rows_of(&batch));
        batch
            .into_iter()
            .for_each(|record| self.state.apply(record));
    }

    /// Whether these rows are what is left of all: nothing is missing but what was settled.
    fn explains(&self, rows: &[Bytes]) -> bool {
        self.rows.ends_with(rows) && self.rows.len() - rows.len() <= self.settled
    }
}

fn rows_from(log: &dyn RowLog, mut from: u64) -> std::io::Result<Vec<(u64, Bytes)>> {
    let mut all = Vec::new();
    loop {
        let rows = log.read(from, 7, 10_000)?;
        let Some((last, _)) = rows.last() else {
            return Ok(all);
        };
        from = last + 1;
        all.extend(rows);
    }
}

fn small_files(rng: &mut StdRng) -> Options {
    Options {
        segment_bytes: rng.random_range(500..20_000),
        fold_bytes: rng.random_range(500..20_000),
        gather: Duration::from_micros(rng.random_range(0..100) * u64::from(rng.random_ratio(1, 4))),
        ..Options::default()
    }
}

/// One life up to a loss of power; the batches of which nobody knows.
fn live(
    storage: &Disk,
    disk: &Unreliable,
    maker: &mut Maker,
    promised: &mut Promised,
    rng: &mut StdRng,
) -> Vec<Vec<Persist>> {
    let log = storage.rows(SINK);
    if rng.random_ratio(3, 4) {
        disk.power_fails_after(Some(rng.random_range(0..120)));
    }
    for _ in 0..rng.random_range(1..40) {
        let queue = log.as_ref().map(|log| log.id());
        let group: Vec<_> = (0..rng.random_range(1..5))
            .map(|_| maker.batch(queue, rng))
            .collect();
        let tickets: Vec<_> = group
            .iter()
            .map(|batch| {
                let (ticket, done) = Ticket::new();
                let waits = if rng.random() {
                    Waits::Somebody
                } else {
                    Waits::Nobody
                };
                storage.commit(batch.clone(), done.awaited_by(waits));
                ticket
            })
            .collect();
        let mut unknown = Vec::new();
        for (ticket, batch) in tickets.iter().zip(group) {
            if kept(ticket) {
                assert!(unknown.is_empty(), "batches are kept in their order");
                promised.keep(batch);
            } else {
                unknown.push(batch);
            }
        }
        if !unknown.is_empty() {
            return unknown;
        }
        if let Some(log) = &log
            && rng.random_ratio(1, 4)
        {
            let Ok(rows) = rows_from(&**log, 0) else {
                return Vec::new();
            };
            if !rows.is_empty() {
                let place = rng.random_range(0..rows.len());
                log.settle(rows[place].0);
                promised.settled = promised.rows.len() - (rows.len() - 1 - place);
            }
        }
    }
    Vec::new()
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("WEIR_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WEIR_SIM_SEEDS").unwrap_or(1000),
    }
}

#[test]
fn what_the_broker_was_told_is_kept_is_there_after_any_loss_of_power() {
    for seed in seeds() {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Unreliable::default();
        let (mut maker, mut promised) = (Maker::default(), Promised::default());
        let mut unknown: Vec<Vec<Persist>> = Vec::new();
        for life in 0..rng.random_range(2..5) {
            let options = small_files(&mut rng);
            let (storage, recovered) = loop {
                if rng.random_ratio(1, 4) {
                    disk.power_fails_after(Some(rng.random_range(0..30)));
                }
                match open(&disk, Durability::Fsync, options) {
                    Ok(opened) => break opened,
                    Err(_) => disk.lose_power(&mut |below| rng.random_range(0..below)),
                }
            };
            disk.power_fails_after(None);
            assert!(
                recovered.damage.is_empty() && recovered.gaps.is_empty(),
                "seed {seed}, life {life}: {recovered:?}"
            );
            let found = loaded(&storage);
            let log = storage.rows(SINK).expect("there is power");
            let numbered = rows_from(&*log, 0).expect("there is power");
            assert!(numbered.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}");
            let rows: Vec<Bytes> = numbered.into_iter().map(|(_, row)| row).collect();
            // Of what nobody was told, any part may be there, each batch whole.
            let explained = (0..1_u32 << unknown.len()).find_map(|chosen| {
                let chosen: Vec<_> = (0..unknown.len())
                    .filter(|place| chosen & (1 << place) != 0)
                    .map(|place| &unknown[place])
                    .collect();
                let promised = promised.with(&chosen);
                (told(&promised.state) == told(&found) && promised.explains(&rows))
                    .then_some(promised)
            });
            promised = explained.unwrap_or_else(|| {
                panic!(
                    "seed {seed}, life {life}: found\n{:#?}\npromised\n{:#?}\n{} of {} rows, {} settled, {} unknown",
                    told(&found),
                    told(&promised.state),
                    rows.len(),
                    promised.rows.len(),
                    promised.settled,
                    unknown.len()
                )
            });
            unknown = live(&storage, &disk, &mut maker, &mut promised, &mut rng);
            disk.power_fails_after(Some(0));
            drop(log);
            drop(storage);
            disk.lose_power(&mut |below| rng.random_range(0..below));
        }
    }
}

/// Without syncs a loss of power takes whatever it takes: what is left is of what was handed over, in its order, and is
/// not called damaged. Numbers of rows that are lost are given again only behind those that are there.
#[test]
fn without_syncs_a_loss_of_power_leaves_nothing_that_never_was() {
    for seed in seeds() {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Unreliable::default();
        let (mut maker, mut handed_over) = (Maker::default(), Vec::new());
        for _ in 0..rng.random_range(2..5) {
            let (storage, recovered) = open(&disk, Durability::Os, small_files(&mut rng))
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(recovered.damage.is_empty(), "seed {seed}: {recovered:?}");
            let log = storage.rows(SINK).expect("there is power");
            let numbered = rows_from(&*log, 0).expect("there is power");
            assert!(numbered.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}");
            let places = numbered.iter().map(|(_, row)| {
                handed_over
                    .iter()
                    .position(|known| known == row)
                    .unwrap_or_else(|| panic!("seed {seed}: a row that never was"))
            });
            assert!(
                places.is_sorted_by(|a, b| a < b),
                "seed {seed}: rows twice or out of order"
            );
            for _ in 0..rng.random_range(1..40) {
                let batch = maker.batch(Some(log.id()), &mut rng);
                let before = log.standing().tail;
                handed_over.extend(rows_of(&batch));
                let rows = rows_of(&batch).count() as u64;
                let (ticket, done) = Ticket::new();
                storage.commit(batch, done);
                assert!(kept(&ticket), "seed {seed}");
                assert_eq!(log.standing().tail, before + rows, "seed {seed}");
            }
            disk.power_fails_after(Some(0));
            drop(log);
            drop(storage);
            disk.lose_power(&mut |below| rng.random_range(0..below));
        }
    }
}

/// Each byte of each file is another one once: at most what stood in one place is lost, it is told, and a copy is kept.
#[test]
fn a_changed_byte_costs_one_batch_at_most_and_is_told() {
    let mut rng = StdRng::seed_from_u64(11);
    let sound = Unreliable::default();
    let (mut maker, mut batches) = (Maker::default(), Vec::new());
    let (storage, _) = open(&sound, Durability::Fsync, Options::default()).expect("an empty disk");
    let log = storage.rows(SINK).expect("there is power");
    let mut kinds = BTreeSet::new();
    while kinds.len() < 15 || batches.len() < 25 {
        let batch = maker.batch(Some(log.id()), &mut rng);
        if batch.is_empty() || batches.len() > 400 {
            continue;
        }
        kinds.extend(batch.iter().map(|record| {
            let text = format!("{record:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        }));
        let (ticket, done) = Ticket::new();
        storage.commit(batch.clone(), done);
        assert!(kept(&ticket));
        batches.push(batch);
    }
    drop(log);
    drop(storage);
    let whole = Promised::default().with(&batches.iter().collect::<Vec<_>>());
    for name in sound.names() {
        for at in 0..sound.bytes_of(&name).len() {
            let disk = sound.copy();
            disk.damage(&name, at, 1 << (at % 8));
            let what = format!("byte {at} of {name}");
            let opened = open(&disk, Durability::Fsync, Options::default());
            // A record or a file of a later version is refused, and nothing is changed.
            let Ok((storage, recovered)) = opened else {
                assert!(at < 8, "{what}: refused");
                continue;
            };
            let found = told(&loaded(&storage));
            let honest = !recovered.damage.is_empty()
                || !recovered.gaps.is_empty()
                || recovered.torn_bytes > 0;
            if found == told(&whole.state) {
                continue;
            }
            assert!(honest, "{what}: lost in silence");
            let explained = (0..batches.len()).any(|lost| {
                let rest = (0..batches.len()).filter(|place| *place != lost);
                let rest: Vec<_> = rest.map(|place| &batches[place]).collect();
                told(&Promised::default().with(&rest).state) == found
            });
            assert!(
                explained,
                "{what}: what is left is not what was kept without one batch"
            );
        }
    }
}
