//! Any byte of any file is another one, and any file is cut anywhere: what is sound is there, and what is not is told.

use std::collections::BTreeMap;

use crate::disk::Disk as _;
use crate::log::OpenError;
use crate::lossy::Unreliable;
use crate::unreliable::{Opened, one_of_each_kind, queue, try_open};

/// The batches of the sound store.
const BATCHES: [u64; 5] = [1, 2, 3, 5, 6];
/// The beginning of a frame stands at the end of a store with one of each kind.
const TORN_BYTES: usize = 4;
/// What a file begins with, and a frame.
const HEAD_BYTES: usize = 24;
const MARK: &[u8] = b"\xf0wfr";

fn rows(opened: &Opened) -> Option<BTreeMap<u64, Vec<u8>>> {
    let queue = queue(&opened.log, "kept")?;
    let rows = queue.read(0, 100, 1000).expect("a file can be read");
    Some(
        rows.into_iter()
            .map(|(seq, row)| (seq, row.to_vec()))
            .collect(),
    )
}

/// A store with one of each kind, and the rows that are in it.
struct Sound {
    disk: Unreliable,
    rows: BTreeMap<u64, Vec<u8>>,
}

impl Sound {
    fn new() -> Self {
        let disk = one_of_each_kind(true);
        // Its torn end would hide what a cut leaves of a frame.
        let (name, length) = ("log-0000000000000003", TORN_BYTES);
        disk.cut(name, disk.bytes_of(name).len() - length);
        let opened = try_open(&disk.copy(), 0).expect("it is sound");
        assert_eq!(opened.records, BATCHES);
        let rows = rows(&opened).expect("the queue is there");
        let texts: Vec<&[u8]> = rows.values().map(|row| &row[..]).collect();
        assert_eq!(texts, [b"b", b"c", b"f", b"g"]);
        Self { disk, rows }
    }
}

/// Opens a store that is not sound, and says whether everything is there all the same, or the loss was told.
fn is_honest(sound: &Sound, disk: &Unreliable, what: &str) -> bool {
    let before = disk.copy();
    let opened = match try_open(disk, 0) {
        Ok(opened) => opened,
        Err(OpenError::Io { error, .. }) => panic!("{what}: {error}"),
        // A file of another version is refused by its name, and stays as it is.
        Err(_) => {
            for name in before.names() {
                assert_eq!(disk.bytes_of(&name), before.bytes_of(&name), "{what}");
            }
            return true;
        }
    };
    let found = &opened.records;
    assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
    for batch in found {
        assert!(BATCHES.contains(batch), "{what}: batch {batch} never was");
    }
    let rows = rows(&opened);
    for (seq, row) in rows.iter().flatten() {
        // A settled row may be there again, and one that was taken away where the batch is lost that took it.
        let right = sound.rows.get(seq) == Some(row)
            || (*seq, &row[..]) == (1, b"a")
            || (*seq, &row[..]) == (4, b"d") && !found.contains(&6);
        assert!(right, "{what}: row {seq} is {row:?}");
    }
    let recovered = &opened.recovered;
    for damage in &recovered.damage {
        let names = disk.names();
        assert!(names.contains(&damage.copy), "{what}: no copy in {names:?}");
        assert!(
            before
                .names()
                .iter()
                .any(|name| before.bytes_of(name) == disk.bytes_of(&damage.copy)),
            "{what}: the copy is not what was there"
        );
    }
    let whole = found == &BATCHES
        && rows.is_some_and(|rows| {
            sound
                .rows
                .iter()
                .all(|(seq, row)| rows.get(seq) == Some(row))
        });
    let told =
        !recovered.damage.is_empty() || !recovered.gaps.is_empty() || recovered.torn_bytes > 0;
    // What was cut off or put aside once is no news the next time, and nothing else goes.
    let found = opened.records.clone();
    drop(opened);
    let again = try_open(disk, 0).expect("what was mended opens");
    assert_eq!(again.records, found, "{what}: the next start");
    whole || told
}

#[test]
fn any_changed_byte_is_told_or_changes_nothing() {
    let sound = Sound::new();
    assert!(is_honest(&sound, &sound.disk.copy(), "sound"));
    let mut places = 0;
    for name in sound.disk.names() {
        for at in 0..sound.disk.bytes_of(&name).len() {
            for bits in [1, 0x80, 0xff] {
                let disk = sound.disk.copy();
                disk.damage(&name, at, bits);
                let what = format!("byte {at} of {name}, {bits:#x}");
                assert!(is_honest(&sound, &disk, &what), "{what}: lost in silence");
                places += 1;
            }
        }
    }
    assert!(places > 1000, "{places}");
}

#[test]
fn any_cut_file_is_told_unless_it_ends_with_a_whole_batch() {
    let sound = Sound::new();
    let mut silent = Vec::new();
    for name in sound.disk.names() {
        for length in 0..sound.disk.bytes_of(&name).len() {
            let disk = sound.disk.copy();
            disk.cut(&name, length);
            if !is_honest(&sound, &disk, &format!("{name} cut to {length}")) {
                silent.push((name.clone(), length));
            }
        }
    }
    // The last segment, where it ends with a whole frame, looks like one that was never longer.
    for (name, length) in &silent {
        assert_eq!(name, "log-0000000000000003", "{silent:?}");
        let bytes = sound.disk.bytes_of(name);
        let behind = &bytes[*length..];
        // Nothing but a head is left, or the cut is where a frame begins or the torn end does.
        let ends = *length <= HEAD_BYTES || behind.starts_with(MARK);
        assert!(ends, "{name} cut to {length}: {silent:?}");
    }
}

#[test]
fn a_file_that_is_gone_is_told_or_held_nothing_alone() {
    let sound = Sound::new();
    for name in sound.disk.names() {
        let disk = sound.disk.copy();
        disk.remove(&name).expect("it was there");
        disk.sync_names().expect("there is power");
        let honest = is_honest(&sound, &disk, &format!("without {name}"));
        assert!(honest || name == "log-0000000000000003", "{name}");
    }
}
