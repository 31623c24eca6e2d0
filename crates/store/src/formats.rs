//! Files of this version of the format open, and those of another are refused.

use std::sync::Arc;

use crate::body::Batch;
use crate::disk::{Disk, DiskFile};
use crate::log::{Change, Log};
use crate::lossy::Unreliable;
use crate::queues::Queue;
use crate::unreliable::{open, queue, snapshot};

#[test]
fn a_file_of_another_version_is_refused_by_name() {
    let disk = Unreliable::default();
    disk.create("log-0000000000000001")
        .unwrap()
        .append(b"weirlog\x07")
        .unwrap();
    let error = Log::open(Arc::new(disk), &mut |_| ()).err().unwrap();
    assert!(
        error.to_string().contains("log-0000000000000001"),
        "{error}"
    );
}

/// All files of a disk, each as its name and its bytes in hexadecimal.
fn as_text(disk: &Unreliable) -> String {
    let state = disk.0.lock();
    let line = |(name, file): (&String, &usize)| {
        let bytes = &state.files[file].now;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {hex}\n")
    };
    state.names.iter().map(line).collect()
}

fn from_text(text: &str) -> Unreliable {
    let disk = Unreliable::default();
    for line in text.lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes = (0..hex.len()).step_by(2);
        let bytes: Vec<u8> = bytes
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        disk.create(name).unwrap().append(&bytes).unwrap();
    }
    disk
}

/// A log with one of each kind: a snapshot, copied rows, a segment that was carried over, one that is torn; and with
/// `taken` a row that was taken away between others.
pub(crate) fn one_of_each_kind(taken: bool) -> Unreliable {
    let disk = Unreliable::default();
    let mut opened = open(&disk, 0);
    let made = |log: &mut Log<Unreliable>, name: &str| {
        let head = log.queues().new_head(name);
        log.commit(&mut [], &[Change::Made(head.clone())], true)
            .unwrap();
        log.queues().insert(head)
    };
    let (kept, dropped) = (
        made(&mut opened.log, "kept"),
        made(&mut opened.log, "dropped"),
    );
    let batch = |number: u64, rows: &[&str]| {
        let rows = rows
            .iter()
            .map(|row| (kept.id(), row.as_bytes().to_vec().into()));
        Batch {
            records: number.to_le_bytes().to_vec(),
            rows: rows.collect(),
            taken: Vec::new(),
        }
    };
    let log = &mut opened.log;
    log.commit(&mut [batch(1, &["a", "b"]), batch(2, &["c"])], &[], true)
        .unwrap();
    Queue::new(Arc::clone(&kept), Arc::clone(log.queues())).settle(1);
    snapshot(log, &disk, 0, true);
    log.commit(
        &mut [batch(3, &["d"])],
        &[Change::Dropped(dropped.id())],
        true,
    )
    .unwrap();
    let hole = disk.bytes("log-0000000000000002") + 5;
    log.commit(&mut [batch(4, &["e"]), batch(5, &["f"])], &[], true)
        .unwrap();
    disk.flip("log-0000000000000002", hole);
    drop(opened);
    // What stood behind the hole is carried into the next segment.
    let mut opened = open(&disk, 0);
    let mut last = batch(6, &["g"]);
    if taken {
        last.taken.push((kept.id(), 4));
    }
    opened.log.commit(&mut [last], &[], true).unwrap();
    // The beginning of a frame.
    let text = as_text(&disk);
    let lines = text.lines().map(|line| {
        let torn = line.starts_with("log-0000000000000003");
        format!("{line}{}\n", if torn { "f0776672" } else { "" })
    });
    from_text(&lines.collect::<String>())
}

/// [LESSON-16]
#[test]
fn files_of_this_version_of_the_format_still_open() {
    for (name, taken) in [("format_v2.hex", false), ("format_v2_taken.hex", true)] {
        let path = format!("{}/src/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, as_text(&one_of_each_kind(taken))).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.len() < 4096, "{} bytes", text.len());
        for disk in [from_text(&text), one_of_each_kind(taken)] {
            opens_as_it_was_written(&disk, taken);
        }
    }
}

fn opens_as_it_was_written(disk: &Unreliable, taken: bool) {
    let opened = open(disk, 0);
    assert_eq!(opened.records, [1, 2, 3, 5, 6]);
    let recovered = &opened.recovered;
    assert!(
        recovered.damage.is_empty() && recovered.gaps.is_empty(),
        "{recovered:?}"
    );
    assert_eq!(opened.recovered.torn_bytes, 4);
    let queues = opened.log.queues().standings();
    assert_eq!(
        (queues.len(), &*queues[0].name, queues[0].head),
        (1, "kept", 2)
    );
    let rows = queue(&opened.log, "kept")
        .unwrap()
        .read(0, 100, 1000)
        .unwrap();
    let rows: Vec<u8> = rows.iter().flat_map(|(_, row)| row.to_vec()).collect();
    let expected: &[u8] = if taken { b"bcfg" } else { b"bcdfg" };
    assert_eq!(rows, expected);
}
