//! Any byte of any file is another one, and any file is cut anywhere: what is sound is there, and what is not is told.

use std::collections::BTreeMap;

use crate::body::Batch;
use crate::disk::Disk as _;
use crate::formats::one_of_each_kind;
use crate::log::{Change, Log, Missing, OpenError};
use crate::lossy::Unreliable;
use crate::unreliable::{Opened, fold_up_to, queue, snapshot, try_open};

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
    let told = !recovered.damage.is_empty()
        || !recovered.missing.is_empty()
        || !recovered.gaps.is_empty()
        || recovered.torn_bytes > 0;
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

fn records() -> Batch {
    Batch::records(1_u64.to_le_bytes().to_vec())
}

/// A log with a queue, of which two frames know, and so many rows of one byte in it, each in a frame of its own.
fn with_rows(disk: &Unreliable, count: u64) -> Log<Unreliable> {
    let mut log = try_open(disk, 0).expect("it is empty").log;
    let head = log.queues().new_head("kept");
    log.commit(&mut [], &[Change::Made(head.clone())], true)
        .expect("there is room");
    log.queues().insert(head);
    put_rows(&mut log, count);
    log
}

/// Gives the number of the last row.
fn put_rows(log: &mut Log<Unreliable>, count: u64) -> u64 {
    let kept = queue(log, "kept").expect("the queue is there");
    for _ in 0..count {
        let mut batch = Batch::default();
        batch.rows.push((kept.id(), b"r".to_vec().into()));
        log.commit(&mut [batch], &[], true).expect("there is room");
    }
    kept.tail() - 1
}

/// Where the frames of a file begin.
fn frames_of(disk: &Unreliable, name: &str) -> Vec<usize> {
    let bytes = disk.bytes_of(name);
    let marks = bytes.windows(MARK.len()).enumerate();
    marks
        .filter_map(|(at, window)| (window == MARK).then_some(at))
        .collect()
}

const LOST: u64 = 300;

/// Opens a log that has lost rows with numbers up to [`LOST`], and holds it to giving none of them again.
fn gives_no_number_again(disk: &Unreliable) {
    let mut opened = try_open(disk, 0).expect("damage is no error");
    let number = put_rows(&mut opened.log, 1);
    let recovered = &opened.recovered;
    assert!(number > LOST, "number {number} again: {recovered:?}");
    let is_told = recovered.missing.iter().any(|missing| missing.from < LOST);
    assert!(is_told, "{recovered:?}");
}

#[test]
fn numbers_of_rows_behind_a_cut_inside_a_frame_are_not_given_again() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, LOST);
    log.rotate().expect("there is room");
    log.commit(&mut [records()], &[], true)
        .expect("there is room");
    drop(log);
    let name = "log-0000000000000001";
    disk.cut(name, frames_of(&disk, name)[20] + 7);
    gives_no_number_again(&disk);
}

#[test]
fn numbers_of_rows_are_not_given_again_when_the_frame_behind_them_is_damaged_too() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, LOST);
    log.rotate().expect("there is room");
    for _ in 0..2 {
        log.commit(&mut [records()], &[], true)
            .expect("there is room");
    }
    drop(log);
    let (name, next) = ("log-0000000000000001", "log-0000000000000002");
    disk.cut(name, frames_of(&disk, name)[20]);
    disk.damage(next, frames_of(&disk, next)[0] + 30, 1);
    gives_no_number_again(&disk);
}

#[test]
fn what_is_cut_off_before_a_carried_tail_is_told_and_gives_no_number_again() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, LOST);
    log.commit(
        &mut [records(), Batch::records(2_u64.to_le_bytes().to_vec())],
        &[],
        true,
    )
    .expect("there is room");
    drop(log);
    let name = "log-0000000000000001";
    let frames = frames_of(&disk, name);
    disk.damage(name, frames[frames.len() - 2] + 30, 1);
    let opened = try_open(&disk, 0).expect("the last write is torn");
    assert_eq!(opened.records, [2], "it was carried");
    drop(opened);
    let again = try_open(&disk.copy(), 0).expect("it was mended");
    assert!(again.recovered.missing.is_empty(), "{:?}", again.recovered);
    let next = queue(&again.log, "kept").expect("it is there").tail();
    assert!(
        next < 2 * LOST,
        "{next}: a tear skips its bytes and no more"
    );
    disk.cut(name, frames[20] + 7);
    gives_no_number_again(&disk);
}

#[test]
fn damage_in_a_file_of_rows_does_not_hide_a_missing_segment() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, 3);
    snapshot(&mut log, &disk, 0, true);
    put_rows(&mut log, 4);
    log.rotate().expect("there is room");
    put_rows(&mut log, 1);
    drop(log);
    let rows = "rows-0000000000000002";
    disk.damage(rows, frames_of(&disk, rows)[0] + 30, 1);
    disk.remove("log-0000000000000002").expect("it was there");
    let opened = try_open(&disk, 0).expect("damage is no error");
    let recovered = &opened.recovered;
    assert_eq!(recovered.damage.len(), 1, "{recovered:?}");
    assert_eq!(recovered.damage[0].file, rows);
    let expected = Missing {
        from: 6,
        to: Some(9),
        behind: Some("snapshot-0000000000000002".to_owned()),
        before: "log-0000000000000003".to_owned(),
    };
    assert_eq!(recovered.missing, [expected]);
}

/// Whether a copy was made of any file.
fn has_copies(disk: &Unreliable) -> bool {
    disk.names().iter().any(|name| name.starts_with("damaged-"))
}

#[test]
fn a_segment_that_is_gone_is_told_by_its_frames_and_no_sound_file_is_copied() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, 1);
    for _ in 0..2 {
        log.rotate().expect("there is room");
        put_rows(&mut log, 5);
    }
    disk.remove("log-0000000000000002").expect("it was there");
    let expected = Missing {
        from: 4,
        to: Some(8),
        behind: Some("log-0000000000000001".to_owned()),
        before: "log-0000000000000003".to_owned(),
    };
    let copy = disk.copy();
    let opened = try_open(&copy, 0).expect("what is there is sound");
    assert_eq!(opened.recovered.missing, std::slice::from_ref(&expected));
    assert!(opened.recovered.damage.is_empty() && !has_copies(&copy));
    let segment = log.rotate().expect("there is room");
    let folded = fold_up_to(&log, &disk, segment).expect("it needs no copy");
    assert_eq!(folded.missing, [expected]);
    assert!(folded.damage.is_empty() && !has_copies(&disk));
}

#[test]
fn a_newest_segment_that_is_gone_is_told_by_the_snapshot() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, 1);
    log.rotate().expect("there is room");
    put_rows(&mut log, 5);
    let segment = log.rotate().expect("there is room");
    disk.remove("log-0000000000000002").expect("it was there");
    let folded = fold_up_to(&log, &disk, segment).expect("it needs no copy");
    let missing = folded.missing.iter();
    let numbers: Vec<_> = missing.map(|missing| (missing.from, missing.to)).collect();
    assert_eq!(numbers, [(4, Some(8))]);
}

#[test]
fn a_bad_tail_that_was_folded_is_no_news_at_the_next_start() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, 5);
    let name = "log-0000000000000001";
    let frames = frames_of(&disk, name);
    disk.damage(name, frames[frames.len() - 1] + 30, 1);
    let segment = log.rotate().expect("there is room");
    let folded = fold_up_to(&log, &disk, segment).expect("there is room for a copy");
    assert_eq!(folded.damage.len(), 1);
    assert!(folded.missing.is_empty(), "{:?}", folded.missing);
    put_rows(&mut log, 1);
    drop(log);
    let recovered = try_open(&disk, 0).expect("it is sound").recovered;
    assert!(
        recovered.damage.is_empty() && recovered.missing.is_empty(),
        "{recovered:?}"
    );
}

#[test]
fn a_snapshot_of_which_nothing_is_left_is_damage_and_makes_no_frames_missing() {
    let disk = Unreliable::default();
    let mut log = with_rows(&disk, 3);
    snapshot(&mut log, &disk, 0, true);
    put_rows(&mut log, 1);
    drop(log);
    disk.cut("snapshot-0000000000000002", HEAD_BYTES);
    let recovered = try_open(&disk, 0).expect("damage is no error").recovered;
    assert!(!recovered.damage.is_empty() && recovered.missing.is_empty());
}
