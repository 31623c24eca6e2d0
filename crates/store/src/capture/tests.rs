use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn open(path: &Path, bytes: u64) -> Capture {
    let bounds = Bounds { bytes, age: HOUR };
    Capture::open(
        Folder::open(path).unwrap(),
        b"head".to_vec(),
        bounds,
        |_| {},
    )
    .unwrap()
}

/// Every entry with its number, and what else the reading has shown.
fn read_from(path: &Path, number: u64, at_ms: u64) -> (Vec<(u64, Vec<u8>)>, Reading) {
    let mut found = Vec::new();
    let recording = Recording::new(Folder::open(path).unwrap());
    let reading = recording.read(number, at_ms, &mut |item| {
        match item {
            Item::Head(head) => assert_eq!(head, b"head"),
            Item::Entry { number, bytes, .. } => found.push((number, bytes.to_vec())),
        }
        ControlFlow::Continue(())
    });
    (found, reading.unwrap())
}

fn numbers(path: &Path) -> Vec<u64> {
    read_from(path, 0, 0)
        .0
        .into_iter()
        .map(|(number, _)| number)
        .collect()
}

fn append(capture: &Capture, text: &str) -> u64 {
    capture.append(now_ms(), |out| out.extend_from_slice(text.as_bytes()))
}

fn segments(path: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(SEGMENT)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_appended_is_read_in_its_order_while_it_is_open_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    assert_eq!((append(&capture, "a"), append(&capture, "")), (0, 1));
    capture.flush();
    assert_eq!(
        read_from(dir.path(), 0, 0).0,
        [(0, b"a".to_vec()), (1, Vec::new())]
    );
    append(&capture, "c");
    drop(capture);
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
    let capture = open(dir.path(), 1 << 30);
    assert_eq!((capture.next_number(), append(&capture, "d")), (3, 3));
    capture.flush();
    assert_eq!(
        read_from(dir.path(), 2, 0).0,
        [(2, b"c".to_vec()), (3, b"d".to_vec())]
    );
    assert_eq!(segments(dir.path()).len(), 2, "a new file after each start");
    assert_eq!(capture.tally().entries, 1);
}

#[test]
fn what_comes_after_a_new_beginning_stands_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    append(&capture, "a");
    capture.begin_anew();
    append(&capture, "b");
    capture.flush();
    append(&capture, "c");
    capture.flush();
    assert_eq!(segments(dir.path()).len(), 2);
    assert_eq!(numbers(dir.path()), [0, 1, 2]);
    let (_, reading) = read_from(dir.path(), 1, 0);
    let file = fs::metadata(&segments(dir.path())[1]).unwrap().len();
    assert!(reading.bytes < file, "the first file is not read");
}

#[test]
fn a_second_one_is_refused_and_readers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    let bounds = Bounds {
        bytes: 1,
        age: HOUR,
    };
    let second = Capture::open(
        Folder::open(dir.path()).unwrap(),
        Vec::new(),
        bounds,
        |_| {},
    );
    assert_eq!(
        second.err().map(|error| error.kind()),
        Some(io::ErrorKind::WouldBlock)
    );
    assert!(numbers(dir.path()).is_empty());
    drop(capture);
    open(dir.path(), 1 << 30);
}

#[test]
fn the_oldest_files_go_when_there_are_too_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 64 << 10);
    for _ in 0..200 {
        append(&capture, &"x".repeat(1000));
        capture.flush();
    }
    assert!(capture.tally().bytes <= 64 << 10, "{:?}", capture.tally());
    let kept = numbers(dir.path());
    assert_eq!(kept.last(), Some(&199));
    assert!((40..64).contains(&kept.len()), "{} are kept", kept.len());
    assert!(kept.is_sorted_by(|a, b| a + 1 == *b), "without a hole");
    // And a restart knows them all.
    drop(capture);
    assert_eq!(open(dir.path(), 64 << 10).next_number(), 200);
}

#[test]
fn what_is_too_old_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    capture.append(now_ms() - 2 * 3_600_000, |out| out.push(1));
    drop(capture);
    let capture = open(dir.path(), 1 << 30);
    append(&capture, "young");
    capture.flush();
    drop(capture);
    assert_eq!(numbers(dir.path()), [1]);
}

#[test]
fn a_torn_end_is_cut_and_its_numbers_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    append(&capture, "first");
    capture.flush();
    append(&capture, "second");
    drop(capture);
    let file = &segments(dir.path())[0];
    let whole = fs::read(file).unwrap();
    for cut in 0..whole.len() {
        fs::write(file, &whole[..cut]).unwrap();
        let before = numbers(dir.path());
        let next = open(dir.path(), 1 << 30).next_number();
        assert_eq!(numbers(dir.path()), before, "{cut}");
        assert_eq!(next, before.len() as u64, "{cut}");
        assert!(
            read_from(dir.path(), 0, 0).1.spoiled.is_empty(),
            "a tear is no damage"
        );
    }
}

#[test]
fn any_flipped_byte_costs_its_frame_is_named_and_changes_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let capture = open(dir.path(), 1 << 30);
    for text in ["one", "two", "three"] {
        append(&capture, text);
        capture.flush();
    }
    drop(capture);
    let (sound, _) = read_from(dir.path(), 0, 0);
    let file = &segments(dir.path())[0];
    let whole = fs::read(file).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(file, &flipped).unwrap();
        let (found, reading) = read_from(dir.path(), 0, 0);
        assert!(found.iter().all(|entry| sound.contains(entry)), "{at}");
        let lost = sound.len() - found.len();
        assert!(lost <= 1 || at < MAGIC.len(), "{at}: {lost}");
        // One of two salts may be damaged; the last frame looks torn.
        let is_last = found.len() == 2 && found[1].0 == 1;
        assert!(lost == 0 || is_last || !reading.spoiled.is_empty(), "{at}");
        let is_middle = found.len() == 2 && found[1].0 == 2 && found[0].0 == 0;
        assert_eq!(reading.missing, u64::from(is_middle), "{at}");
    }
}

#[test]
fn readers_find_their_time_without_reading_what_is_long_before() {
    let dir = tempfile::tempdir().unwrap();
    for (day, text) in [(1, "a"), (2, "b"), (3, "c")] {
        let capture = open(dir.path(), 1 << 30);
        capture.append(now_ms() + day, |out| out.extend_from_slice(text.as_bytes()));
    }
    let (all, _) = read_from(dir.path(), 0, 0);
    assert_eq!(all.len(), 3);
    assert!(read_from(dir.path(), 0, now_ms() + 1_000_000).0.is_empty());
    assert_eq!(read_from(dir.path(), 0, now_ms() - 1_000_000).0.len(), 3);
}

#[test]
fn threads_that_append_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Arc::new(open(dir.path(), 1 << 30));
    let threads: Vec<_> = (0..4)
        .map(|name| {
            let capture = Arc::clone(&capture);
            std::thread::spawn(move || {
                for turn in 0..1000 {
                    append(&capture, &format!("{name}-{turn}"));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    capture.flush();
    let (found, reading) = read_from(dir.path(), 0, 0);
    assert_eq!((found.len(), reading.missing), (4000, 0));
    for name in 0..4 {
        let own: Vec<_> = found
            .iter()
            .filter_map(|(_, text)| {
                let text = std::str::from_utf8(text).unwrap();
                let (own, turn) = text.split_once('-')?;
                (own == name.to_string()).then(|| turn.parse::<u32>().unwrap())
            })
            .collect();
        assert!(own.is_sorted() && own.len() == 1000);
    }
}

#[test]
fn a_disk_that_refuses_costs_entries_that_are_counted_and_nobody_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture");
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let bounds = Bounds {
        bytes: 1 << 30,
        age: HOUR,
    };
    let tell = move |error: Option<&io::Error>| hears.lock().push(error.is_some());
    let capture =
        Capture::open(Folder::open(&path).unwrap(), b"head".to_vec(), bounds, tell).unwrap();
    fs::remove_dir_all(&path).unwrap();
    append(&capture, "lost");
    capture.flush();
    assert_eq!((capture.tally().entries, capture.tally().lost), (0, 1));
    fs::create_dir(&path).unwrap();
    append(&capture, "kept");
    capture.flush();
    drop(capture);
    assert_eq!(numbers(&path), [1]);
    assert_eq!(*told.lock(), [true, false]);
}
