//! What was seen of signatures that were accepted, so that none is accepted twice (time_check = "strict").
//!
//! Bounded, and closed when it is full: a signature that cannot be remembered is not accepted. With a file, a restart
//! forgets nothing. Nothing in the file was chosen by a client: it holds times, addresses, hashes of signatures, and
//! names as the table of devices has them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use weir_sinks::bridge::verifier::{Claim, Freshness, Reason};

use super::Seldom;

/// Signatures that are remembered at once.
const MAX_SEEN: usize = 100_000;
/// Those of one device: what it does cannot fill the memory of all.
const MAX_OF_DEVICE: usize = 256;
/// Between two looks at everything that is remembered, in milliseconds.
const FORGET_EVERY_MS: u64 = 1000;

/// Who shows a signature, and from where.
pub(super) struct Sight<'a> {
    /// The device, without white space.
    pub(super) identity: &'a str,
    /// What it shows.
    pub(super) claim: &'a Claim,
    /// From where; `None` over a unix socket.
    pub(super) peer: Option<IpAddr>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Memory {
    seen: Mutex<Seen>,
    told: Seldom,
}

#[derive(Default)]
struct Seen {
    /// The time of each device's last signature, in milliseconds since 1970.
    last: HashMap<String, i64>,
    /// Each device's signatures, by their hash: none is empty.
    once: HashMap<String, HashMap<String, Once>>,
    /// How many signatures there are in `once`.
    count: usize,
    /// When everything was looked at last, in milliseconds since 1970.
    forgot_at_ms: i64,
    log: Option<Log>,
}

/// A signature that may not come again.
struct Once {
    /// Until when it would be taken, in seconds since 1970.
    until_s: i64,
    /// Where it came from first; `None` over a unix socket.
    peer: Option<IpAddr>,
}

/// A line for each thing that was seen.
struct Log {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Whether its end may be half a line.
    torn: bool,
}

impl Memory {
    /// Goes on with what a file holds, and writes there from now on.
    pub(super) fn open(&self, path: &Path, now_ms: i64) -> std::io::Result<()> {
        let mut seen = self.seen.lock();
        match std::fs::read_to_string(path) {
            Ok(text) => text.lines().for_each(|line| seen.read(line)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        seen.forget(now_ms);
        seen.log = Some(seen.write_anew(path)?);
        Ok(())
    }

    /// Remembers a signature, or says why it cannot be accepted. Of two that come at once one is accepted.
    pub(super) fn admit(
        &self,
        fresh: &Freshness,
        sight: &Sight<'_>,
        now_ms: i64,
    ) -> Result<(), Reason> {
        let mut seen = self.seen.lock();
        let line = match fresh {
            Freshness::Any => return Ok(()),
            Freshness::Later(at_ms) => {
                if seen
                    .last
                    .get(sight.identity)
                    .is_some_and(|last| last >= at_ms)
                {
                    return Err(Reason::Replayed);
                }
                seen.last.insert(sight.identity.to_owned(), *at_ms);
                last_line(sight.identity, *at_ms)
            }
            Freshness::Once(until_s) | Freshness::OnePlace(until_s) => {
                let same_place = matches!(fresh, Freshness::OnePlace(_));
                // The signature covers the connection's id and the end: there is nothing else to tell two apart by.
                let hash = sight.claim.fingerprint();
                let known = seen.once.get(sight.identity).and_then(|own| own.get(&hash));
                match known {
                    Some(once) if same_place && once.peer == sight.peer => return Ok(()),
                    Some(_) => return Err(Reason::Replayed),
                    None => {}
                }
                if !seen.has_room(sight.identity, now_ms) {
                    return Err(Reason::MemoryFull);
                }
                let once = Once {
                    until_s: *until_s,
                    peer: sight.peer,
                };
                let line = once_line(sight.identity, &hash, &once);
                seen.remember(sight.identity, hash, once);
                line
            }
        };
        seen.note(&line, now_ms).map_err(|error| {
            if self.told.is_due(now_ms) {
                tracing::error!(%error, "what was seen of a device's signature cannot be written");
            }
            Reason::Unavailable
        })
    }
}

fn last_line(identity: &str, at_ms: i64) -> String {
    format!("last {at_ms} {identity}\n")
}

fn once_line(identity: &str, hash: &str, once: &Once) -> String {
    let peer = once
        .peer
        .map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    format!("once {} {peer} {hash} {identity}\n", once.until_s)
}

impl Seen {
    /// Takes a line of the file. One that is not whole is the last of a process that was killed.
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["last", at_ms, identity] => {
                let Ok(at_ms) = at_ms.parse() else { return };
                let last = self.last.entry(identity.to_owned()).or_insert(at_ms);
                *last = at_ms.max(*last);
            }
            ["once", until_s, peer, hash, identity] => {
                let Ok(until_s) = until_s.parse() else { return };
                let peer = match peer {
                    "-" => None,
                    peer => match peer.parse() {
                        Ok(peer) => Some(peer),
                        Err(_) => return,
                    },
                };
                self.remember(identity, hash.to_owned(), Once { until_s, peer });
            }
            _ => {}
        }
    }

    /// Where a signature came from first is never overwritten.
    fn remember(&mut self, identity: &str, hash: String, once: Once) {
        use std::collections::hash_map::Entry;
        let own = self.once.entry(identity.to_owned()).or_default();
        if let Entry::Vacant(place) = own.entry(hash) {
            place.insert(once);
            self.count += 1;
        }
    }

    fn has_room(&mut self, identity: &str, now_ms: i64) -> bool {
        let now_s = now_ms.div_euclid(1000);
        if let Some(own) = self.once.get_mut(identity)
            && own.len() >= MAX_OF_DEVICE
        {
            let before = own.len();
            own.retain(|_, once| once.until_s >= now_s);
            self.count -= before - own.len();
            if own.len() >= MAX_OF_DEVICE {
                return false;
            }
        }
        let is_due = now_ms.abs_diff(self.forgot_at_ms) >= FORGET_EVERY_MS;
        if self.count >= MAX_SEEN && is_due {
            self.forget(now_ms);
        }
        self.count < MAX_SEEN
    }

    fn forget(&mut self, now_ms: i64) {
        let now_s = now_ms.div_euclid(1000);
        let mut count = 0;
        self.once.retain(|_, own| {
            own.retain(|_, once| once.until_s >= now_s);
            count += own.len();
            !own.is_empty()
        });
        (self.count, self.forgot_at_ms) = (count, now_ms);
    }

    /// Writes a line, or everything anew where there are many old ones or the last could not be written.
    fn note(&mut self, line: &str, now_ms: i64) -> std::io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if log.torn || log.lines > 2 * (self.last.len() + self.count) + 1000 {
            let path = log.path.clone();
            self.forget(now_ms);
            self.log = Some(self.write_anew(&path)?);
            return Ok(());
        }
        log.lines += 1;
        let written = log.file.write_all(line.as_bytes());
        log.torn = written.is_err();
        written
    }

    fn write_anew(&self, path: &Path) -> std::io::Result<Log> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let unfinished = path.with_extension("unfinished");
        let mut text = String::new();
        for (identity, at_ms) in &self.last {
            text.push_str(&last_line(identity, *at_ms));
        }
        for (identity, own) in &self.once {
            for (hash, once) in own {
                text.push_str(&once_line(identity, hash, once));
            }
        }
        // One that was left behind may be readable by others.
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        // A name that is there before what it names would be an empty memory after a loss of power.
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Log {
            path: path.to_owned(),
            file,
            lines: self.last.len() + self.count,
            torn: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_sinks::bridge::verifier::Presented;

    use super::*;

    /// A claim with the signature of that number.
    fn claim(number: usize) -> Claim {
        let token = format!(
            "version=2018-10-31&res=products%2Fp%2Fdevices%2Fd&et=9&method=sha1&sign=AAAA{number:08}"
        );
        let presented = Presented {
            client_id: "d",
            username: Some("p"),
            password: token.as_bytes(),
        };
        presented.claim(presented.scheme().unwrap()).unwrap()
    }

    fn admit(memory: &Memory, fresh: Freshness, peer: &str) -> Result<(), Reason> {
        shown(memory, "onenet:p:d", 0, fresh, peer, 1000)
    }

    fn shown(
        memory: &Memory,
        identity: &str,
        number: usize,
        fresh: Freshness,
        peer: &str,
        now_ms: i64,
    ) -> Result<(), Reason> {
        let sight = Sight {
            identity,
            claim: &claim(number),
            peer: Some(peer.parse().unwrap()),
        };
        memory.admit(&fresh, &sight, now_ms)
    }

    #[test]
    fn times_only_go_forward_and_a_restart_forgets_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let begin = || {
            let memory = Memory::default();
            memory.open(&file, 1000).unwrap();
            memory
        };
        let memory = begin();
        let at = |memory: &Memory, ms| admit(memory, Freshness::Later(ms), "10.0.0.1");
        assert_eq!(at(&memory, 5), Ok(()));
        assert_eq!(at(&memory, 5), Err(Reason::Replayed));
        assert_eq!(at(&memory, 6), Ok(()));
        assert_eq!(at(&begin(), 6), Err(Reason::Replayed));
        assert_eq!(at(&begin(), 7), Ok(()));
        std::fs::write(&file, "last 9 onenet:p:d\nonce 77").unwrap();
        assert_eq!(at(&begin(), 9), Err(Reason::Replayed));
    }

    #[test]
    fn a_signature_comes_once_or_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let memory = Memory::default();
        memory.open(&file, 1000).unwrap();
        let place = |memory: &Memory, peer| admit(memory, Freshness::OnePlace(9), peer);
        assert_eq!(place(&memory, "10.0.0.1"), Ok(()));
        assert_eq!(place(&memory, "10.0.0.1"), Ok(()));
        assert_eq!(place(&memory, "10.0.0.2"), Err(Reason::Replayed));
        let again = Memory::default();
        again.open(&file, 1000).unwrap();
        assert_eq!(place(&again, "10.0.0.2"), Err(Reason::Replayed));
        assert_eq!(place(&again, "10.0.0.1"), Ok(()));
        let once = Memory::default();
        assert_eq!(admit(&once, Freshness::Once(9), "10.0.0.1"), Ok(()));
        assert_eq!(
            admit(&once, Freshness::Once(9), "10.0.0.1"),
            Err(Reason::Replayed)
        );
    }

    #[test]
    fn a_line_that_comes_later_does_not_move_a_signature_to_another_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let hash = claim(0).fingerprint();
        let text = format!(
            "once 9 10.0.0.1 {hash} onenet:p:d\nonce 9 10.0.0.2 {hash} onenet:p:d\n\
             last 9 onenet:p:d and more\nonce 9 nowhere {hash} onenet:p:d\n"
        );
        std::fs::write(&file, text).unwrap();
        let memory = Memory::default();
        memory.open(&file, 1000).unwrap();
        let place = |peer| admit(&memory, Freshness::OnePlace(9), peer);
        assert_eq!(place("10.0.0.2"), Err(Reason::Replayed));
        assert_eq!(place("10.0.0.1"), Ok(()));
        assert_eq!(memory.seen.lock().count, 1);
        let later = admit(&memory, Freshness::Later(5), "10.0.0.1");
        assert_eq!(later, Ok(()), "a line with more words is none");
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        for old in [&file, &file.with_extension("unfinished")] {
            std::fs::write(old, "").unwrap();
            std::fs::set_permissions(old, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        Memory::default().open(&file, 1000).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn after_half_a_line_the_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let memory = Memory::default();
        memory.open(&file, 1000).unwrap();
        if let Some(log) = &mut memory.seen.lock().log {
            log.file.write_all(b"last 7").unwrap();
            log.torn = true;
        }
        assert_eq!(admit(&memory, Freshness::Later(5), "10.0.0.1"), Ok(()));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "last 5 onenet:p:d\n");
    }

    #[test]
    fn a_memory_without_room_takes_nothing_new_until_something_is_over() {
        let memory = Memory::default();
        {
            let mut seen = memory.seen.lock();
            for number in 0..MAX_SEEN {
                let once = Once {
                    until_s: 9,
                    peer: None,
                };
                seen.remember(&format!("d{}", number / 200), number.to_string(), once);
            }
        }
        let at = |now_ms| shown(&memory, "new", 0, Freshness::Once(20), "10.0.0.1", now_ms);
        assert_eq!(at(9999), Err(Reason::MemoryFull));
        assert_eq!(at(10_000), Err(Reason::MemoryFull), "it has just looked");
        assert_eq!(at(10_999), Ok(()));
        assert_eq!(memory.seen.lock().count, 1);
    }

    #[test]
    fn a_device_that_fills_its_own_part_keeps_nobody_else_out() {
        let memory = Memory::default();
        let show = |identity, number, now_ms| {
            let fresh = Freshness::Once(9);
            shown(&memory, identity, number, fresh, "10.0.0.1", now_ms)
        };
        for number in 0..MAX_OF_DEVICE {
            assert_eq!(show("greedy", number, 1000), Ok(()));
        }
        let further = MAX_OF_DEVICE;
        assert_eq!(show("greedy", further, 1000), Err(Reason::MemoryFull));
        assert_eq!(show("other", further, 1000), Ok(()));
        // What is over makes room at once.
        assert_eq!(show("greedy", further, 10_000), Ok(()));
        assert_eq!(memory.seen.lock().count, 2);
    }

    #[test]
    fn the_file_stays_as_small_as_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let memory = Memory::default();
        memory.open(&file, 1000).unwrap();
        for ms in 0..3000 {
            admit(&memory, Freshness::Later(ms), "10.0.0.1").unwrap();
        }
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < 1100, "{lines}");
    }
}
