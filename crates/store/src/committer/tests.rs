use std::sync::mpsc::channel;

use bytes::Bytes;

use super::*;
use crate::disk::{DiskFile, Folder};

struct Nothing;

impl Fold for Nothing {
    fn take(&mut self, _: &[u8]) {}

    fn give(&mut self, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        Err(io::Error::other("it cannot be made"))
    }
}

fn committer(folder: &std::path::Path, options: Options) -> Committer {
    let disk = Arc::new(Folder::open(folder).unwrap());
    let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
    Committer::start(log, disk, options, || Box::new(Nothing), |_| ()).unwrap()
}

fn in_the_log(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let disk = Arc::new(Folder::open(folder).unwrap());
    let mut batches = Vec::new();
    Log::open(disk, &mut |batch| batches.push(batch.to_vec())).unwrap();
    batches
}

#[test]
fn batches_of_many_threads_are_all_there_in_the_order_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committer(folder.path(), Options::default());
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let committer = &committer;
            scope.spawn(move || {
                let (told, kept) = channel();
                for number in 0..50 {
                    let told = told.clone();
                    committer.commit(Batch::records(vec![thread, number]), move |outcome| {
                        told.send(outcome).unwrap()
                    });
                }
                for _ in 0..50 {
                    kept.recv().unwrap().unwrap();
                }
            });
        }
    });
    let (batches, syncs) = committer.counts();
    assert_eq!(batches, 400);
    assert!(syncs < 400, "one sync serves many: {syncs}");
    drop(committer);
    let found = in_the_log(folder.path());
    assert_eq!(found.len(), 400);
    for thread in 0..8 {
        let own = found.iter().filter(|batch| batch[0] == thread);
        assert!(own.map(|batch| batch[1]).is_sorted(), "thread {thread}");
    }
}

#[test]
fn batches_that_nobody_waits_for_share_a_sync_and_keep_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        gather: Duration::from_secs(3600),
        ..Options::default()
    };
    let committer = committer(folder.path(), options);
    let (told, kept) = channel();
    let done = |number| {
        let told = told.clone();
        move |outcome: Outcome| told.send((number, outcome.is_ok())).unwrap()
    };
    committer.commit_soon(Batch::records(vec![0]), done(0));
    assert_eq!(kept.recv().unwrap(), (0, true), "alone it goes at once");
    for number in 1..100 {
        committer.commit_soon(Batch::records(vec![number]), done(number));
    }
    assert!(kept.try_recv().is_err(), "they gather");
    committer.commit(Batch::records(vec![100]), done(100));
    for number in 1..=100 {
        assert_eq!(kept.recv().unwrap(), (number, true));
    }
    assert_eq!(committer.counts(), (101, 2));
    committer.commit_soon(Batch::records(vec![101]), done(101));
    committer.end();
    assert_eq!(kept.recv().unwrap(), (101, true), "the end waits for none");
    drop(committer);
    let expected: Vec<_> = (0..=101).map(|number| vec![number]).collect();
    assert_eq!(in_the_log(folder.path()), expected);
}

#[test]
fn a_snapshot_that_cannot_be_made_is_not_tried_with_every_group() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        fold_bytes: 4096,
        ..Options::default()
    };
    let committer = committer(folder.path(), options);
    let (told, kept) = channel();
    for _ in 0..200 {
        let told = told.clone();
        committer.commit(Batch::records(vec![7; 100]), move |outcome| {
            told.send(outcome).unwrap()
        });
        kept.recv().unwrap().unwrap();
    }
    drop(committer);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(files < 20, "{files} files");
    assert_eq!(in_the_log(folder.path()).len(), 200);
}

/// A folder that has no room for more, for a while.
struct Filling(Folder, Arc<AtomicBool>);

struct FillingFile(std::fs::File, Arc<AtomicBool>);

impl Disk for Filling {
    type File = FillingFile;
    type Lock = <Folder as Disk>::Lock;

    fn lock(&self) -> io::Result<Self::Lock> {
        self.0.lock()
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.0.length(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn io::Read>> {
        self.0.read(name, from)
    }

    fn create(&self, name: &str) -> io::Result<FillingFile> {
        Ok(FillingFile(self.0.create(name)?, Arc::clone(&self.1)))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.0.truncate(name, length)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
}

impl DiskFile for FillingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            self.0.append(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn what_finds_no_room_waits_and_everything_behind_it_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::<AtomicBool>::default();
    let disk = Arc::new(Filling(
        Folder::open(folder.path()).unwrap(),
        Arc::clone(&full),
    ));
    let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
    let committer =
        Committer::start(log, disk, Options::default(), || Box::new(Nothing), |_| ()).unwrap();
    let (told, trouble) = channel();
    committer.on_trouble(move |error| told.send(error.is_some()).unwrap());
    let (told, kept) = channel();
    let commit = |number| {
        let told = told.clone();
        committer.commit(Batch::records(vec![number]), move |outcome| {
            told.send((number, outcome.is_ok())).unwrap();
        });
    };
    full.store(true, Ordering::SeqCst);
    commit(1);
    assert!(trouble.recv().unwrap(), "it is told that there is no room");
    (2..5).for_each(commit);
    full.store(false, Ordering::SeqCst);
    assert!(!trouble.recv().unwrap(), "it is told that there is room");
    for number in 1..5 {
        assert_eq!(kept.recv().unwrap(), (number, true));
    }
    full.store(true, Ordering::SeqCst);
    commit(5);
    assert!(trouble.recv().unwrap());
    committer.end();
    assert_eq!(
        kept.recv().unwrap(),
        (5, false),
        "it does not wait for ever"
    );
    drop(committer);
    full.store(false, Ordering::SeqCst);
    let expected: Vec<_> = (1..5).map(|number| vec![number]).collect();
    assert_eq!(in_the_log(folder.path()), expected);
}

#[test]
fn a_batch_is_written_before_it_is_kept_and_what_is_refused_is_neither() {
    let dir = tempfile::tempdir().unwrap();
    let committer = committer(dir.path(), Options::default());
    let (said, heard) = channel();
    let put = |rows| {
        let (written, kept) = (said.clone(), said.clone());
        let batch = Batch {
            records: b"x".to_vec(),
            rows,
            taken: Vec::new(),
        };
        committer.commit_noting(
            batch,
            Some(Box::new(move || written.send("written").unwrap())),
            move |outcome| {
                kept.send(if outcome.is_ok() { "kept" } else { "refused" })
                    .unwrap()
            },
        );
    };
    put(Vec::new());
    assert_eq!(
        [heard.recv().unwrap(), heard.recv().unwrap()],
        ["written", "kept"]
    );
    // There is no such queue.
    put(vec![(77, Bytes::from_static(b"row"))]);
    assert_eq!(heard.recv().unwrap(), "refused");
    assert!(heard.try_recv().is_err());
}

#[test]
fn who_comes_after_the_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let committer = committer(folder.path(), Options::default());
    committer.end();
    let (told, kept) = channel();
    committer.commit(Batch::records(vec![1]), move |outcome| {
        told.send(outcome).unwrap()
    });
    assert!(kept.recv().unwrap().is_err());
}

#[derive(Default)]
struct Records(Vec<Vec<u8>>);

impl Fold for Records {
    fn take(&mut self, batch: &[u8]) {
        self.0.push(batch.to_vec());
    }

    fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.0.iter().try_for_each(|batch| each(batch))
    }
}

fn with_snapshots(folder: &std::path::Path) -> Committer {
    let disk = Arc::new(Folder::open(folder).unwrap());
    let (log, recovered) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
    assert!(recovered.gaps.is_empty(), "{recovered:?}");
    let options = Options {
        segment_bytes: 1 << 14,
        fold_bytes: 1 << 15,
        ..Options::default()
    };
    Committer::start(log, disk, options, || Box::<Records>::default(), |_| ()).unwrap()
}

fn put(committer: &Committer, queue: &Queue, rows: impl IntoIterator<Item = Vec<u8>>) {
    let (told, kept) = channel();
    let rows = rows
        .into_iter()
        .map(|row| (queue.id(), row.into()))
        .collect();
    let records = Vec::new();
    committer.commit(
        Batch {
            records,
            rows,
            ..Batch::default()
        },
        move |outcome| {
            told.send(outcome).unwrap();
        },
    );
    kept.recv().unwrap().unwrap();
}

#[test]
fn a_queue_keeps_its_epoch_its_numbers_and_what_is_not_settled() {
    let folder = tempfile::tempdir().unwrap();
    let first = with_snapshots(folder.path());
    let queue = first.queue("sink").unwrap();
    let epoch = queue.epoch();
    assert!(epoch < 1 << 63);
    for number in 0..200_u8 {
        put(&first, &queue, [vec![number; 1000]]);
    }
    queue.settle(120);
    first.end();
    let second = with_snapshots(folder.path());
    let queue = second.queue("sink").unwrap();
    assert_eq!(
        (queue.epoch(), queue.head(), queue.tail()),
        (epoch, 121, 201)
    );
    assert_eq!((queue.rows(), queue.bytes()), (80, 80_000));
    put(&second, &queue, [b"next".to_vec()]);
    let rows = queue.read(0, 1000, usize::MAX).unwrap();
    let numbers: Vec<u64> = rows.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (121..=201).collect::<Vec<_>>());
    assert_eq!((rows[0].1[0], &rows[80].1[..]), (120, &b"next"[..]));
}

#[test]
fn rows_are_read_while_snapshots_move_them() {
    let folder = tempfile::tempdir().unwrap();
    let committer = with_snapshots(folder.path());
    let queue = committer.queue("sink").unwrap();
    let (arrived, seen) = channel();
    queue.on_arrival(move || arrived.send(()).unwrap_or_default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2_000_u32 {
                put(&committer, &queue, [number.to_le_bytes().repeat(500)]);
            }
        });
        let mut next = 1;
        while next <= 2_000 {
            let rows = queue.read(next, 100, 50_000).unwrap();
            for (seq, row) in &rows {
                assert_eq!(*seq, next);
                let number = u32::try_from(next - 1).unwrap();
                assert_eq!(row[..4], number.to_le_bytes());
                next += 1;
            }
            // What waits is more than is kept whole.
            queue.settle(next.saturating_sub(800));
            if rows.is_empty() {
                seen.recv().unwrap();
            }
        }
    });
}

#[test]
fn what_is_settled_is_written_without_anything_else_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let committer = with_snapshots(folder.path());
    let queue = committer.queue("sink").unwrap();
    put(&committer, &queue, [vec![1], vec![2]]);
    let bytes = || -> u64 {
        let files = std::fs::read_dir(folder.path()).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    let before = bytes();
    queue.settle(1);
    while bytes() == before {
        std::thread::yield_now();
    }
    assert_eq!(queue.rows(), 1);
}

#[test]
fn a_queue_that_is_dropped_is_gone_and_a_new_one_of_its_name_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let committer = with_snapshots(folder.path());
    let old = committer.queue("sink").unwrap();
    put(&committer, &old, [vec![1]]);
    assert!(committer.drop_queue("sink").unwrap());
    assert!(!committer.drop_queue("sink").unwrap());
    put(&committer, &old, [vec![2]]);
    drop(committer);
    let committer = with_snapshots(folder.path());
    assert!(committer.queues().is_empty());
    let new = committer.queue("sink").unwrap();
    assert_ne!((new.id(), new.epoch()), (old.id(), old.epoch()));
    assert_eq!(new.tail(), 1);
    let (told, kept) = channel();
    let rows = vec![(7, vec![1].into())];
    let records = Vec::new();
    committer.commit(
        Batch {
            records,
            rows,
            ..Batch::default()
        },
        move |outcome| {
            told.send(outcome).unwrap();
        },
    );
    assert!(
        kept.recv().unwrap().is_err(),
        "there was never such a queue"
    );
}

#[test]
fn a_folder_is_for_one_store_at_a_time_and_free_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let committer = with_snapshots(folder.path());
    let disk = Arc::new(Folder::open(folder.path()).unwrap());
    let second = Log::open(Arc::clone(&disk), &mut |_| ());
    assert!(matches!(second.err().unwrap(), OpenError::InUse));
    committer.end();
    assert!(Log::open(disk, &mut |_| ()).is_ok());
}

/// Gives batches until it is told to stop.
struct Endless(std::sync::mpsc::Sender<bool>);

impl Fold for Endless {
    fn take(&mut self, _: &[u8]) {}

    fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let _ = self.0.send(true);
        let ended = loop {
            if let Err(error) = each(&[1]) {
                break error;
            }
            std::thread::yield_now();
        };
        let _ = self.0.send(false);
        Err(ended)
    }
}

#[test]
fn the_end_waits_for_a_snapshot_that_stops_at_its_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::open(folder.path()).unwrap());
    let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
    let options = Options {
        fold_bytes: 1,
        ..Options::default()
    };
    let (running, steps) = channel();
    let running = Mutex::new(running);
    let make = move || -> Box<dyn Fold> { Box::new(Endless(running.lock().clone())) };
    let committer = Committer::start(log, disk, options, make, |_| ()).unwrap();
    committer.commit(Batch::records(vec![1]), |_| ());
    assert!(steps.recv().unwrap());
    committer.end();
    assert_eq!(steps.try_recv(), Ok(false), "it has ended before");
}

#[test]
fn the_owner_is_told_when_a_snapshot_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::open(folder.path()).unwrap());
    let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
    let options = Options {
        fold_bytes: 1,
        ..Options::default()
    };
    let (told, troubles) = channel();
    let told = Mutex::new(told);
    let tell = move |trouble| drop(told.lock().send(trouble));
    let committer = Committer::start(log, disk, options, || Box::new(Nothing), tell).unwrap();
    committer.commit(Batch::records(vec![1]), |_| ());
    let trouble = troubles.recv().unwrap();
    assert!(
        matches!(&trouble, Trouble::Fold(error) if error.to_string().contains("it cannot be made")),
        "{trouble:?}"
    );
}
