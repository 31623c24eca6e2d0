//! The promise that must hold on a disk that forgets what was not synced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Recovered;
use crate::body::Batch;
use crate::disk::{Disk, DiskFile};
use crate::log::{Change, Fold, Folded, Log, OpenError, fold};
use crate::lossy::Unreliable;
use crate::queues::Queue;

impl Unreliable {
    pub(crate) fn flip(&self, name: &str, at: usize) {
        self.damage(name, at, 0x10);
    }

    pub(crate) fn bytes(&self, name: &str) -> usize {
        self.bytes_of(name).len()
    }
}

/// Chance by a seed.
fn chance(rng: &mut StdRng) -> impl FnMut(usize) -> usize {
    |below| rng.random_range(0..below)
}

/// Keeps every batch.
/// Keeps all batches, or leaves all of them where they stand: as many as there are say which.
#[derive(Default)]
struct KeepAll {
    batches: Vec<Vec<u8>>,
    left: usize,
}

impl Fold for KeepAll {
    fn take(&mut self, batch: &[u8]) {
        self.batches.push(batch.to_vec());
    }

    fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.batches.len().is_multiple_of(2) {
            self.left = self.batches.len();
            return Ok(());
        }
        self.batches.iter().try_for_each(|batch| each(batch))
    }

    fn is_whole(&self) -> bool {
        self.left == 0
    }

    fn again(
        &mut self,
        batch: &[u8],
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = &self.batches[self.batches.len() - self.left];
        assert_eq!(batch, &before[..], "they come in the same order");
        self.left -= 1;
        each(batch)
    }
}

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A row says which it is: of which batch, for which queue, the how manieth.
fn row(batch: u64, queue: usize, place: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut row = batch.to_le_bytes().to_vec();
    row.extend_from_slice(&[u8::try_from(queue).unwrap(), u8::try_from(place).unwrap()]);
    let length = if rng.random_ratio(1, 20) { 70_000 } else { 400 };
    row.resize(10 + rng.random_range(0..length), batch.to_le_bytes()[0]);
    row
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// What must hold of a queue.
#[derive(Default)]
struct Expected {
    epoch: Option<u64>,
    /// Kept rows by number.
    rows: BTreeMap<u64, Vec<u8>>,
    settled: u64,
    /// So far it was settled before a write that was kept.
    settled_safe: u64,
}

#[derive(Default)]
struct Expectation {
    next: u64,
    records: Vec<u64>,
    queues: [Expected; 3],
    /// The rows of each batch that may be there, with the numbers they would have.
    batches: HashMap<u64, Vec<(usize, u64, Vec<u8>)>>,
    /// The rows that each batch takes away.
    taken: HashMap<u64, Vec<(usize, u64)>>,
}

pub(crate) struct Opened {
    pub(crate) log: Log<Unreliable>,
    pub(crate) records: Vec<u64>,
    pub(crate) recovered: Recovered,
}

pub(crate) fn try_open(disk: &Unreliable, seed: u64) -> Result<Opened, OpenError> {
    let mut records = Vec::new();
    let (log, recovered) = Log::open(Arc::new(disk.clone()), &mut |batch| {
        let number = number_of(batch);
        let fill = number.to_le_bytes()[0];
        assert!(
            batch[8..].iter().all(|byte| *byte == fill),
            "seed {seed}: a batch is not what was written"
        );
        records.push(number);
    })?;
    Ok(Opened {
        log,
        records,
        recovered,
    })
}

pub(crate) fn open(disk: &Unreliable, seed: u64) -> Opened {
    try_open(disk, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

pub(crate) fn queue(log: &Log<Unreliable>, name: &str) -> Option<Queue> {
    let state = log.queues().named(name)?;
    Some(Queue::new(state, Arc::clone(log.queues())))
}

fn read_all(queue: &Queue, rng: &mut StdRng) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let rows = queue.read(from, rng.random_range(1..50), rng.random_range(0..100_000))?;
        let Some((last, _)) = rows.last() else {
            return Ok(all);
        };
        from = last + 1;
        all.extend(rows.into_iter().map(|(seq, row)| (seq, row.to_vec())));
    }
}

impl Expectation {
    /// Holds the log that was opened to it; what was found once must stay, acknowledged or not.
    fn check(&mut self, opened: &Opened, seed: u64, rng: &mut StdRng) {
        let found = &opened.records;
        assert!(
            found.is_sorted_by(|a, b| a < b),
            "seed {seed}: out of order or twice: {found:?}"
        );
        for number in &self.records {
            assert!(
                found.contains(number),
                "seed {seed}: batch {number} is lost"
            );
        }
        self.records.clone_from(found);
        let taken: HashSet<(usize, u64)> = found
            .iter()
            .flat_map(|number| self.taken.get(number).into_iter().flatten().copied())
            .collect();
        for (place, seq) in &taken {
            self.queues[*place].rows.remove(seq);
        }
        let records: HashSet<u64> = found.iter().copied().collect();
        let mut heads = [1; 3];
        let mut seen = HashSet::new();
        for (place, name) in NAMES.iter().enumerate() {
            let expected = &mut self.queues[place];
            let Some(queue) = queue(&opened.log, name) else {
                assert_eq!(expected.epoch, None, "seed {seed}: queue {name} is lost");
                continue;
            };
            if let Some(epoch) = expected.epoch {
                assert_eq!(epoch, queue.epoch(), "seed {seed}");
            }
            expected.epoch = Some(queue.epoch());
            let rows = read_all(&queue, rng).unwrap();
            let standing = queue.standing();
            heads[place] = standing.head;
            assert_eq!(standing.rows, rows.len() as u64, "seed {seed}");
            let bytes: usize = rows.iter().map(|(_, row)| row.len()).sum();
            assert_eq!(standing.bytes, bytes as u64, "seed {seed}");
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}");
            assert!(
                (expected.settled_safe + 1..=expected.settled.max(expected.settled_safe) + 1)
                    .contains(&standing.head),
                "seed {seed}: {name}: {} was settled, {} for certain, and now {standing:?}",
                expected.settled,
                expected.settled_safe
            );
            let rows: BTreeMap<u64, Vec<u8>> = rows.into_iter().collect();
            for (seq, row) in expected.rows.range(standing.head..) {
                assert_eq!(
                    rows.get(seq).map(|row| &row[..10]),
                    Some(&row[..10]),
                    "seed {seed}: row {seq} of {name}"
                );
            }
            let last = expected.rows.last_key_value().map_or(0, |(seq, _)| *seq);
            assert!(standing.tail > last, "seed {seed}: numbers are given again");
            for seq in rows.keys() {
                assert!(
                    !taken.contains(&(place, *seq)),
                    "seed {seed}: row {seq} of {name} was taken"
                );
            }
            for row in rows.values() {
                assert!(
                    seen.insert(row[..10].to_vec()),
                    "seed {seed}: a row is there twice"
                );
                assert!(row[10..].iter().all(|byte| *byte == row[0]), "seed {seed}");
                assert!(
                    records.contains(&number_of(row)),
                    "seed {seed}: rows of a batch without its records"
                );
            }
            expected.rows = rows;
            expected.settled = standing.head - 1;
            expected.settled_safe = expected.settled;
        }
        for number in found {
            for (place, seq, row) in self.batches.get(number).into_iter().flatten() {
                assert!(
                    *seq < heads[*place]
                        || seen.contains(&row[..10])
                        || taken.contains(&(*place, *seq)),
                    "seed {seed}: records of batch {number} without row {seq} of {place}"
                );
            }
        }
    }

    /// A life of a log up to a loss of power.
    fn live(&mut self, log: &mut Log<Unreliable>, disk: &Unreliable, seed: u64, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..60) {
            match rng.random_range(0..24) {
                0 | 1 => snapshot(log, disk, seed, rng.random_bool(0.6)),
                2..=5 => self.consume(log, seed, rng),
                6 => self.make_queue(log, rng.random_range(0..3)),
                _ => self.write(log, rng),
            }
        }
    }

    fn make_queue(&mut self, log: &mut Log<Unreliable>, place: usize) {
        let queues = Arc::clone(log.queues());
        if queues.named(NAMES[place]).is_some() {
            return;
        }
        let head = queues.new_head(NAMES[place]);
        if log
            .commit(&mut [], &[Change::Made(head.clone())], true)
            .is_ok()
        {
            self.queues[place].epoch = Some(head.epoch);
            queues.insert(head);
            self.settles_are_safe();
        }
    }

    fn settles_are_safe(&mut self) {
        for expected in &mut self.queues {
            expected.settled_safe = expected.settled;
        }
    }

    fn write(&mut self, log: &mut Log<Unreliable>, rng: &mut StdRng) {
        let queues: Vec<Option<Queue>> = NAMES.iter().map(|name| queue(log, name)).collect();
        let mut tails = [0; 3];
        for (tail, queue) in tails.iter_mut().zip(&queues) {
            *tail = queue.as_ref().map_or(0, Queue::tail);
        }
        let (mut group, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..rng.random_range(1..6) {
            self.next += 1;
            let number = self.next;
            let mut records = number.to_le_bytes().to_vec();
            records.resize(8 + rng.random_range(0..1500), number.to_le_bytes()[0]);
            let mut batch = Batch::records(records);
            for (place, waiting) in self.queues.iter().enumerate() {
                if let Some(queue) = &queues[place]
                    && rng.random_ratio(1, 4)
                    && !waiting.rows.is_empty()
                {
                    let at = rng.random_range(0..waiting.rows.len());
                    let seq = *waiting.rows.keys().nth(at).unwrap();
                    batch.taken.push((queue.id(), seq));
                    self.taken.entry(number).or_default().push((place, seq));
                }
            }
            let rows = self.batches.entry(number).or_default();
            for at in 0..rng.random_range(0..5) {
                let place = rng.random_range(0..3);
                if let Some(queue) = &queues[place] {
                    let row = row(number, place, at, rng);
                    batch.rows.push((queue.id(), row.clone().into()));
                    rows.push((place, tails[place], row));
                    tails[place] += 1;
                }
            }
            group.push(batch);
            kept.push(number);
        }
        if log.commit(&mut group, &[], true).is_err() {
            return;
        }
        for number in kept {
            self.records.push(number);
            for (place, seq, row) in &self.batches[&number] {
                self.queues[*place].rows.insert(*seq, row.clone());
            }
            for (place, seq) in self.taken.get(&number).into_iter().flatten() {
                self.queues[*place].rows.remove(seq);
            }
        }
        self.settles_are_safe();
    }

    fn consume(&mut self, log: &Log<Unreliable>, seed: u64, rng: &mut StdRng) {
        let place = rng.random_range(0..3);
        let Some(queue) = queue(log, NAMES[place]) else {
            return;
        };
        let expected = &mut self.queues[place];
        // Without power it cannot be read.
        let Ok(rows) = queue.read(0, rng.random_range(1..30), rng.random_range(0..200_000)) else {
            return;
        };
        let mut kept = expected.rows.range(expected.settled + 1..);
        for (seq, row) in &rows {
            let (number, should) = kept.next().unwrap();
            assert_eq!((number, &should[..]), (seq, &row[..]), "seed {seed}");
        }
        assert!(!rows.is_empty() || kept.next().is_none(), "seed {seed}");
        if let Some((last, _)) = rows.last() {
            let up_to = rng.random_range(rows[0].0..=*last);
            queue.settle(up_to);
            expected.settled = up_to;
        }
    }
}

/// A snapshot of everything before segment `segment`, which was begun just now.
pub(crate) fn fold_up_to(
    log: &Log<Unreliable>,
    disk: &Unreliable,
    segment: u64,
) -> Result<Folded, OpenError> {
    let (queues, heads) = (Arc::clone(log.queues()), log.queues().heads());
    let (stop, last) = (AtomicBool::new(false), log.last());
    let all = Box::<KeepAll>::default();
    let span = log.snapshot()..segment;
    fold(disk, span, last, &queues, &heads, all, &stop)
}

pub(crate) fn snapshot(log: &mut Log<Unreliable>, disk: &Unreliable, seed: u64, whole: bool) {
    let Ok(segment) = log.rotate() else { return };
    if !whole {
        return;
    }
    if let Ok(folded) = fold_up_to(log, disk, segment) {
        assert!(
            folded.damage.is_empty() && folded.missing.is_empty() && folded.gaps.is_empty(),
            "seed {seed}"
        );
        log.folded(&folded);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_any_loss_of_power() {
    let seeds = std::env::var("WEIR_SIM_SEEDS").map_or(1000, |seeds| seeds.parse().unwrap());
    let one: Option<u64> = std::env::var("WEIR_SIM_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Unreliable::default();
        let mut expected = Expectation::default();
        for _ in 0..rng.random_range(2..6) {
            // The power may fail while it is opened, again and again.
            let mut opened = loop {
                if rng.random_bool(0.4) {
                    disk.0.lock().fuel = Some(rng.random_range(0..40));
                }
                match try_open(&disk, seed) {
                    Ok(opened) => break opened,
                    Err(OpenError::Io { .. }) => disk.lose_power(&mut chance(&mut rng)),
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            };
            disk.0.lock().fuel = None;
            let recovered = &opened.recovered;
            assert!(
                recovered.damage.is_empty()
                    && recovered.missing.is_empty()
                    && recovered.gaps.is_empty(),
                "seed {seed}: {recovered:?}"
            );
            expected.check(&opened, seed, &mut rng);
            if rng.random_bool(0.7) {
                disk.0.lock().fuel = Some(rng.random_range(0..250));
            }
            if rng.random_bool(0.2) {
                disk.0.lock().full_every = Some(rng.random_range(2..20));
            }
            if rng.random_bool(0.3) {
                disk.names_fail_every(Some(rng.random_range(2..6)));
            }
            expected.live(&mut opened.log, &disk, seed, &mut rng);
            disk.lose_power(&mut chance(&mut rng));
        }
    }
}

#[test]
fn rows_outlive_a_snapshot_whose_name_could_not_be_synced() {
    for (seed, restarts) in [(4, false), (5, true)] {
        let (disk, mut rng) = (Unreliable::default(), StdRng::seed_from_u64(seed));
        let mut opened = open(&disk, seed);
        let mut expected = Expectation::default();
        expected.make_queue(&mut opened.log, 0);
        let id = queue(&opened.log, "one").unwrap().id();
        let put = |log: &mut Log<Unreliable>, row: &'static str| {
            let mut batch = Batch::default();
            batch.rows.push((id, row.as_bytes().into()));
            log.commit(&mut [batch], &[], true).unwrap();
        };
        put(&mut opened.log, "first");
        let segment = opened.log.rotate().unwrap();
        // Those before are of the copied rows and of the snapshot that is being written.
        disk.names_fail_every(Some(3));
        assert!(fold_up_to(&opened.log, &disk, segment).is_err());
        disk.names_fail_every(None);
        let name = format!("snapshot-{segment:016x}");
        assert!(disk.names().contains(&name), "{:?}", disk.names());
        if !restarts {
            put(&mut opened.log, "second");
            snapshot(&mut opened.log, &disk, seed, true);
            assert!(!disk.names().contains(&name), "{:?}", disk.names());
        }
        drop(opened);
        let opened = open(&disk, seed);
        let rows = read_all(&queue(&opened.log, "one").unwrap(), &mut rng).unwrap();
        let rows: Vec<&[u8]> = rows.iter().map(|(_, row)| &row[..]).collect();
        let all: [&[u8]; 2] = [b"first", b"second"];
        assert_eq!(rows, all[..if restarts { 1 } else { 2 }]);
    }
}

fn bytes_of(disk: &Unreliable, kind: &str) -> u64 {
    let names = disk.list().unwrap();
    let names = names.iter().filter(|name| name.starts_with(kind));
    names.map(|name| disk.bytes(name) as u64).sum()
}

#[test]
fn the_disk_holds_little_more_than_the_rows_that_wait() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Unreliable::default();
        let mut opened = open(&disk, seed);
        let mut expected = Expectation::default();
        for place in 0..3 {
            expected.make_queue(&mut opened.log, place);
        }
        for _ in 0..4 {
            expected.live(&mut opened.log, &disk, seed, &mut rng);
            snapshot(&mut opened.log, &disk, seed, true);
            let queues = opened.log.queues().standings();
            let live: u64 = queues
                .iter()
                .map(|queue| queue.bytes + 100 * queue.rows)
                .sum();
            let rows = bytes_of(&disk, "rows-");
            assert!(
                rows <= 4 * live + 200,
                "seed {seed}: {rows} bytes for {live}"
            );
            assert!(bytes_of(&disk, "log-") <= 24, "seed {seed}");
        }
        for name in NAMES {
            queue(&opened.log, name).unwrap().settle(u64::MAX);
        }
        snapshot(&mut opened.log, &disk, seed, true);
        assert_eq!(bytes_of(&disk, "rows-"), 0, "seed {seed}");
    }
}

#[test]
fn a_flipped_byte_loses_no_other_batch_and_is_never_silent() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Unreliable::default();
        let mut opened = open(&disk, seed);
        let mut expected = Expectation::default();
        for place in 0..3 {
            expected.make_queue(&mut opened.log, place);
        }
        expected.live(&mut opened.log, &disk, seed, &mut rng);
        drop(opened);
        let names = disk.list().unwrap();
        let name = &names[rng.random_range(0..names.len())];
        let bytes = disk.bytes(name);
        if bytes <= 24 {
            continue;
        }
        // The last byte of the magic is the version: another one is refused by name.
        let at = rng.random_range(0..bytes - 1);
        disk.flip(name, if at < 7 { at } else { at + 1 });
        let opened = open(&disk, seed);
        let recovered = &opened.recovered;
        let kept = &expected.records;
        let lost = kept
            .iter()
            .filter(|number| !opened.records.contains(number))
            .count();
        assert!(lost <= 1, "seed {seed}: {lost} batches are lost");
        let told = !recovered.damage.is_empty() || recovered.torn_bytes > 0;
        assert!(lost == 0 || told, "seed {seed}: a batch is lost in silence");
        for (place, name) in NAMES.iter().enumerate() {
            let queue = queue(&opened.log, name).expect("no queue is lost with a byte");
            let rows: BTreeMap<u64, Vec<u8>> =
                read_all(&queue, &mut rng).unwrap().into_iter().collect();
            let expected = &expected.queues[place];
            assert_eq!(Some(queue.epoch()), expected.epoch, "seed {seed}");
            let gaps = recovered.gaps.iter().filter(|gap| gap.queue == *name);
            let gaps: Vec<_> = gaps.map(|gap| gap.from..=gap.to).collect();
            let mut at_the_end = true;
            for (seq, row) in expected.rows.range(queue.head()..).rev() {
                match rows.get(seq) {
                    Some(found) => {
                        assert_eq!(found, row, "seed {seed}");
                        at_the_end = false;
                    }
                    // Behind the last row there is nothing that knows of more, and what stood before the last sync looks
                    // like what a crash has torn.
                    None => assert!(
                        told && (at_the_end
                            || recovered.torn_bytes > 0
                            || gaps.iter().any(|gap| gap.contains(seq))),
                        "seed {seed}: row {seq} of {name} is lost in silence: {recovered:?}"
                    ),
                }
            }
            let last = expected.rows.last_key_value().map_or(0, |(seq, _)| *seq);
            assert!(
                queue.tail() > last,
                "seed {seed}: numbers of lost rows are given again"
            );
        }
    }
}

#[test]
fn a_snapshot_keeps_a_copy_of_what_is_damaged_and_says_so() {
    let (disk, mut rng) = (Unreliable::default(), StdRng::seed_from_u64(1));
    let mut opened = open(&disk, 1);
    let mut expected = Expectation::default();
    expected.make_queue(&mut opened.log, 0);
    for _ in 0..20 {
        expected.write(&mut opened.log, &mut rng);
    }
    let name = "log-0000000000000001";
    disk.flip(name, disk.bytes(name) / 2);
    let segment = opened.log.rotate().unwrap();
    let folded = fold_up_to(&opened.log, &disk, segment).unwrap();
    assert_eq!(folded.damage.len(), 1);
    let names = disk.list().unwrap();
    assert!(names.contains(&folded.damage[0].copy) && !names.contains(&name.to_owned()));
}

#[test]
fn what_stood_before_a_damaged_snapshot_is_kept_aside() {
    let (disk, mut rng) = (Unreliable::default(), StdRng::seed_from_u64(2));
    let mut opened = open(&disk, 2);
    let mut expected = Expectation::default();
    for _ in 0..20 {
        expected.write(&mut opened.log, &mut rng);
    }
    let old = {
        let state = disk.0.lock();
        state.files[&state.names["log-0000000000000001"]]
            .now
            .clone()
    };
    snapshot(&mut opened.log, &disk, 2, true);
    // As after a crash before it was removed.
    disk.create("log-0000000000000001")
        .unwrap()
        .append(&old)
        .unwrap();
    disk.flip("snapshot-0000000000000002", 60);
    let opened = open(&disk, 2);
    assert!(!opened.recovered.damage.is_empty());
    let names = disk.list().unwrap();
    for name in ["log-0000000000000001", "snapshot-0000000000000002"] {
        assert!(names.contains(&format!("damaged-{name}")), "{names:?}");
    }
}

#[test]
fn rows_that_are_damaged_while_they_wait_are_jumped_over_and_told() {
    let disk = Unreliable::default();
    let mut opened = open(&disk, 3);
    let mut expected = Expectation::default();
    expected.make_queue(&mut opened.log, 0);
    let id = queue(&opened.log, "one").unwrap().id();
    for number in 0..10_u8 {
        let mut batch = Batch::default();
        batch.rows.push((id, vec![number; 300_000].into()));
        opened.log.commit(&mut [batch], &[], true).unwrap();
    }
    drop(opened);
    let opened = open(&disk, 3);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    opened.log.queues().owner(
        Arc::new(|| ()),
        Arc::new(move |trouble| tell.lock().push(format!("{trouble:?}"))),
    );
    disk.flip("log-0000000000000001", 4 * 300_000 + 1000);
    let queue = queue(&opened.log, "one").unwrap();
    let rows = queue.read(1, 100, usize::MAX).unwrap();
    let numbers: Vec<u64> = rows.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 6, 7, 8, 9, 10]);
    assert_eq!(queue.rows(), 9);
    let told = told.lock();
    assert!(
        told.len() == 1 && told[0].contains("from: 5, to: 5"),
        "{told:?}"
    );
}
