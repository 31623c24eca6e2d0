//! How many batches a second are kept, and how fast waiting rows are read back.
//!
//! `WEIR_BENCH_ROWS=1500000 cargo bench -p weir-store` prints what so many rows that wait cost in memory, and
//! how long a store with them takes to open.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use weir_store::{Batch, Committer, Fold, Folder, Log, Options, Queue};

/// No records are kept.
struct Nothing;

impl Fold for Nothing {
    fn take(&mut self, _: &[u8]) {}

    fn give(&mut self, _: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        Ok(())
    }
}

fn open(folder: &Path, sync: bool) -> Committer {
    let disk = Arc::new(Folder::open(folder).expect("a folder"));
    let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).expect("a log");
    let options = Options {
        sync,
        ..Options::default()
    };
    Committer::start(
        log,
        disk,
        options,
        || Box::new(Nothing),
        |trouble| {
            panic!("{trouble:?}");
        },
    )
    .expect("a thread")
}

/// Puts batches into the line at once, and waits for all.
fn commit(committer: &Committer, batches: impl Iterator<Item = Batch>) {
    let (told, kept) = channel();
    for batch in batches {
        let told = told.clone();
        committer.commit(batch, move |outcome| {
            told.send(outcome).expect("somebody waits");
        });
    }
    drop(told);
    kept.iter().for_each(|outcome| outcome.expect("it is kept"));
}

fn fill(committer: &Committer, queue: &Queue, rows: usize) {
    for _ in 0..rows / 1000 {
        let batches = (0..100).map(|_| Batch {
            records: Vec::new(),
            rows: vec![(queue.id(), vec![7; 200].into()); 10],
            ..Batch::default()
        });
        commit(committer, batches);
    }
}

/// Groups of so many batches of 200 bytes of records, synced.
#[divan::bench(args = [1, 100, 1000])]
fn records(bencher: Bencher, waiting: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let committer = open(folder.path(), true);
    bencher.counter(ItemsCount::new(waiting)).bench(|| {
        commit(
            &committer,
            (0..waiting).map(|_| Batch::records(vec![7; 200])),
        )
    });
}

/// The same with a row of 200 bytes for each batch; they are settled at once.
#[divan::bench(args = [1, 100, 1000])]
fn records_and_rows(bencher: Bencher, waiting: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let committer = open(folder.path(), true);
    let queue = committer.queue("sink").expect("a queue");
    bencher.counter(ItemsCount::new(waiting)).bench(|| {
        let batches = (0..waiting).map(|_| Batch {
            records: vec![7; 200],
            rows: vec![(queue.id(), vec![7; 200].into())],
            ..Batch::default()
        });
        commit(&committer, batches);
        queue.settle(u64::MAX);
    });
}

/// A million rows of 200 bytes that waited, from the files.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn read_back(bencher: Bencher) {
    const ROWS: usize = 1_000_000;
    let folder = tempfile::tempdir().expect("a folder");
    let committer = open(folder.path(), false);
    let queue = committer.queue("sink").expect("a queue");
    fill(&committer, &queue, ROWS);
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let mut next = 1;
        while let Some((last, _)) = black_box(queue.read(next, 1000, 1 << 20))
            .expect("a file")
            .last()
        {
            next = last + 1;
        }
        assert_eq!(next, ROWS as u64 + 1);
    });
}

/// Resident memory of this process, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "it is what the run is for")]
fn waiting(rows: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let committer = open(folder.path(), false);
    let queue = committer.queue("sink").expect("a queue");
    let before = resident_kib();
    fill(&committer, &queue, rows);
    println!(
        "{rows} rows wait: resident {before:?} KiB before, {:?} KiB now",
        resident_kib()
    );
    drop((queue, committer));
    let start = Instant::now();
    let committer = open(folder.path(), false);
    println!("opened in {:?}", start.elapsed());
    let queue = committer.queue("sink").expect("a queue");
    assert_eq!(queue.rows(), rows as u64);
    let files = std::fs::read_dir(folder.path()).expect("a folder");
    let bytes: u64 = files
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum();
    println!("{bytes} bytes on the disk for {} of rows", queue.bytes());
}

fn main() {
    if let Some(rows) = std::env::var("WEIR_BENCH_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
    {
        return waiting(rows);
    }
    divan::main();
}
