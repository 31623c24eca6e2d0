//! What was seen of signatures that were accepted, so that none is accepted twice (time_check = "strict").
//!
//! Bounded, and closed when it is full: a signature that cannot be remembered is not accepted. With a file, a restart
//! forgets nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use weir_sinks::bridge::verifier::{Claim, Freshness, Reason};

/// Signatures that are remembered at once.
const MAX_SEEN: usize = 100_000;

/// Who shows a signature, and from where.
pub(super) struct Sight<'a> {
    /// The device.
    pub(super) identity: &'a str,
    /// What it shows.
    pub(super) claim: &'a Claim,
    /// From where; `None` over a unix socket.
    pub(super) peer: Option<IpAddr>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Memory(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The time of each device's last signature, in milliseconds since 1970.
    last: HashMap<String, i64>,
    /// Until when a signature is good, in seconds since 1970, and where it came from.
    once: HashMap<String, (i64, Option<IpAddr>)>,
    log: Option<Log>,
}

/// A line for each thing that was seen.
struct Log {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Memory {
    /// Goes on with what a file holds, and writes there from now on.
    pub(super) fn open(&self, path: &Path, now_ms: i64) -> std::io::Result<()> {
        let mut seen = self.0.lock();
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
        let mut seen = self.0.lock();
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
                format!("last {at_ms} {}", sight.identity)
            }
            Freshness::Once(until_s) | Freshness::OnePlace(until_s) => {
                let same_place = matches!(fresh, Freshness::OnePlace(_));
                let key = match &sight.claim.nonce {
                    Some(nonce) => format!("{} {nonce} {until_s}", sight.identity),
                    None => format!("{} {}", sight.identity, sight.claim.fingerprint()),
                };
                match seen.once.get(&key) {
                    Some((_, peer)) if same_place && *peer == sight.peer => return Ok(()),
                    Some(_) => return Err(Reason::Replayed),
                    None => {}
                }
                if seen.once.len() >= MAX_SEEN {
                    seen.forget(now_ms);
                }
                if seen.once.len() >= MAX_SEEN {
                    return Err(Reason::MemoryFull);
                }
                let peer = sight
                    .peer
                    .map_or_else(|| "-".to_owned(), |peer| peer.to_string());
                let line = format!("once {until_s} {peer} {key}");
                seen.once.insert(key, (*until_s, sight.peer));
                line
            }
        };
        seen.note(&line, now_ms).map_err(|error| {
            tracing::error!(%error, "what was seen of a device's signature cannot be written");
            Reason::Unavailable
        })
    }
}

impl Seen {
    fn read(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (kind, time, rest) = (words.next(), words.next(), words.next());
        let (Some(time), Some(rest)) = (time.and_then(|time| time.parse().ok()), rest) else {
            // The last line of a process that was killed.
            return;
        };
        match (kind, rest.split_once(' ')) {
            (Some("last"), _) => {
                let last = self.last.entry(rest.to_owned()).or_insert(time);
                *last = time.max(*last);
            }
            (Some("once"), Some((peer, key))) => {
                self.once.insert(key.to_owned(), (time, peer.parse().ok()));
            }
            _ => {}
        }
    }

    fn forget(&mut self, now_ms: i64) {
        /// A signature is taken for a while after its end.
        const LATE_S: i64 = 86_400;
        let now_s = now_ms.div_euclid(1000);
        self.once
            .retain(|_, (until_s, _)| until_s.saturating_add(LATE_S) >= now_s);
    }

    fn note(&mut self, line: &str, now_ms: i64) -> std::io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        writeln!(log.file, "{line}")?;
        log.lines += 1;
        if log.lines > 2 * (self.last.len() + self.once.len()) + 1000 {
            let path = log.path.clone();
            self.forget(now_ms);
            self.log = Some(self.write_anew(&path)?);
        }
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> std::io::Result<Log> {
        let unfinished = path.with_extension("unfinished");
        let mut text = String::new();
        for (identity, at_ms) in &self.last {
            text.push_str(&format!("last {at_ms} {identity}\n"));
        }
        for (key, (until_s, peer)) in &self.once {
            let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
            text.push_str(&format!("once {until_s} {peer} {key}\n"));
        }
        std::fs::write(&unfinished, &text)?;
        std::fs::rename(&unfinished, path)?;
        Ok(Log {
            path: path.to_owned(),
            file: File::options().append(true).open(path)?,
            lines: self.last.len() + self.once.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_sinks::bridge::verifier::Presented;

    use super::*;

    fn claim() -> Claim {
        let presented = Presented {
            client_id: "d",
            username: Some("p"),
            password:
                b"version=2018-10-31&res=products%2Fp%2Fdevices%2Fd&et=9&method=sha1&sign=AAAA",
        };
        presented.claim(presented.scheme().unwrap()).unwrap()
    }

    fn admit(memory: &Memory, fresh: Freshness, peer: &str) -> Result<(), Reason> {
        let claim = claim();
        let sight = Sight {
            identity: "onenet:p:d",
            claim: &claim,
            peer: Some(peer.parse().unwrap()),
        };
        memory.admit(&fresh, &sight, 1000)
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
    fn a_memory_without_room_takes_nothing_new() {
        let memory = Memory::default();
        {
            let mut seen = memory.0.lock();
            for number in 0..MAX_SEEN {
                seen.once.insert(number.to_string(), (9, None));
            }
        }
        assert_eq!(
            admit(&memory, Freshness::Once(9), "10.0.0.1"),
            Err(Reason::MemoryFull)
        );
        memory
            .0
            .lock()
            .once
            .values_mut()
            .for_each(|(until_s, _)| *until_s = -100_000);
        assert_eq!(admit(&memory, Freshness::Once(9), "10.0.0.1"), Ok(()));
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
