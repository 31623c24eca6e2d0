//! What was published lately, kept for a while: `[capture]` of `weir.toml` (`docs/adr/0007-capture.md`).
//!
//! It is no part of what an acknowledgement promises: a message is put into memory on its way, and a thread writes what
//! is there. With no capture the way of a message has one branch for it.

pub mod read;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{RwLock, RwLockReadGuard};
use weir_mqtt::TopicFilter;
use weir_store::Folder;
use weir_store::capture::{Bounds, Capture as Log, Recording, Tally};

use crate::core::message::Message;
use crate::store::records::write_message;

/// Where the capture of a broker lies.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("store").join("capture")
}

/// What the writer of a file says of its messages.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The topic filters whose messages are taken.
    pub filters: Vec<String>,
}

/// Takes messages that go through a broker.
pub struct Capture {
    log: Log,
    folder: Folder,
    filters: Vec<TopicFilter>,
    /// Held for reading from the moment when the rules for a message are looked up until it is taken; held for writing
    /// while other rules become the live ones.
    handover: RwLock<()>,
}

thread_local! {
    /// Messages that are on their way on this thread: a listener may publish another while it sees one.
    static PASSING: Cell<usize> = const { Cell::new(0) };
}

/// A message is on its way: the live rules do not change by a hand-over.
pub struct Passing<'c>(#[expect(dead_code, reason = "it is held")] RwLockReadGuard<'c, ()>);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        PASSING.set(PASSING.get().saturating_sub(1));
    }
}

impl Capture {
    /// Opens the capture below `data_dir` and cuts what a crash has torn.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(data_dir: &Path, filters: Vec<TopicFilter>, bounds: Bounds) -> io::Result<Self> {
        let folder = Folder::open(folder(data_dir))?;
        let head = Head {
            filters: filters
                .iter()
                .map(|filter| filter.as_str().to_owned())
                .collect(),
        };
        let head = serde_json::to_vec(&head)?;
        let log = Log::open(folder.clone(), head, bounds, tell)?;
        Ok(Self {
            log,
            folder,
            filters,
            handover: RwLock::new(()),
        })
    }

    /// Whether messages to `topic` are taken.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// A message begins its way: from here on, its rules are those that are live now.
    pub(crate) fn pass(&self) -> Passing<'_> {
        let others = PASSING.replace(PASSING.get() + 1);
        // A hand-over that waits goes before whoever begins, but not before a message that another one here waits for.
        Passing(match others {
            0 => self.handover.read(),
            _ => self.handover.read_recursive(),
        })
    }

    /// Takes a message that was accepted.
    pub(crate) fn record(&self, message: &Message) {
        self.log
            .append(message.accepted_at, |out| write_message(message, out));
    }

    /// Does something while no message is on its way: each was taken before, or sees what `change` has done. Everyone
    /// who publishes to a captured topic, or to one that a rule wants, waits for it.
    pub(crate) fn hand_over<T>(&self, change: impl FnOnce() -> T) -> T {
        let _alone = self.handover.write();
        change()
    }

    /// The number that the next message gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.log.next_number()
    }

    /// Returns when everything that was taken before can be read.
    pub(crate) fn flush(&self) {
        self.log.flush();
    }

    /// The same; what comes next is found at once by a reader that has seen everything before.
    pub(crate) fn begin_anew(&self) {
        self.log.begin_anew();
    }

    /// What can be read.
    pub(crate) fn recording(&self) -> Recording {
        Recording::new(self.folder.clone())
    }

    /// What became of messages since the start.
    pub fn tally(&self) -> Tally {
        self.log.tally()
    }
}

fn tell(error: Option<&io::Error>) {
    match error {
        Some(error) => tracing::error!(
            code = "E1607",
            %error,
            "the capture cannot be written: messages go on, and are missing in it"
        ),
        None => tracing::info!("the capture can be written again"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_that_a_listener_publishes_does_not_wait_for_a_hand_over_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            bytes: 1 << 20,
            age: Duration::from_secs(60),
        };
        let capture = Capture::open(folder.path(), Vec::new(), bounds).unwrap();
        std::thread::scope(|scope| {
            let outer = capture.pass();
            let changing = scope.spawn(|| capture.hand_over(|| ()));
            while capture.handover.try_read().is_some() {
                std::thread::yield_now();
            }
            let inner = capture.handover.try_read();
            assert!(inner.is_none(), "whoever begins stands behind it");
            drop(capture.pass());
            assert!(!changing.is_finished());
            drop(outer);
            changing.join().unwrap();
        });
        assert_eq!(PASSING.get(), 0);
    }
}
