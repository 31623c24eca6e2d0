//! Which packet identifiers at the remote belong to which queue.
//!
//! The messages of a queue go round in identifiers of its own, so that a message keeps the one it was sent with over
//! restarts although nothing was written when it was sent. `out` has the lower half. Of the upper half each rule's sink at
//! `QoS` 2 has a lane, which is remembered for as long as the session at the remote lives.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::plan::MAX_INFLIGHT;

/// Identifiers from here on are for messages of `QoS` 2 without a number. They are few, so that all of them can be freed
/// when a session goes on: what a lost link left half way stands under one of them.
pub(super) const RING_IDS: u16 = 0x8000;
/// Identifiers from here on are in lanes.
pub(super) const LANE_IDS: u16 = RING_IDS + ring_of(MAX_INFLIGHT);
/// Identifiers from here on are for what leaves nothing at the remote: messages of `QoS` 1 without a number, SUBSCRIBE.
pub(super) const ASK_IDS: u16 = LANE_IDS + LANES * LANE;
/// So many rules' sinks of one bridge have a lane.
const LANES: u16 = 31;
/// So many identifiers are in one.
const LANE: u16 = 512;

/// How many identifiers messages of `QoS` 2 without a number go round in, more than can be on the way or being freed.
pub(super) const fn ring_of(max_inflight: u16) -> u16 {
    2 * max_inflight + 256
}

/// Identifiers that the messages of one queue go round in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    first: u16,
    many: u16,
}

impl Ids {
    /// Those of `out`.
    pub(crate) const OUT: Self = Self {
        first: 1,
        many: RING_IDS - 1,
    };

    const fn lane(number: u16) -> Self {
        Self {
            first: LANE_IDS + number * LANE,
            many: LANE,
        }
    }

    /// The identifier of a message by its number in the queue.
    pub(crate) fn of(self, seq: u64) -> u16 {
        u16::try_from(seq % u64::from(self.many)).map_or(self.first, |at| self.first + at)
    }

    /// Numbers that have all of the identifiers.
    pub(crate) fn numbers(self) -> std::ops::Range<u64> {
        0..u64::from(self.many)
    }

    /// Messages whose numbers are so far apart are never on their way together: half of the identifiers, so that those of
    /// the messages before can be freed meanwhile.
    pub(crate) fn span(self) -> u64 {
        u64::from(self.many / 2)
    }
}

/// Whose messages are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of `out`.
    Out,
    /// Those of a rule's sink.
    Rule,
}

/// Which queue has which lane: the file `NAME.lanes`, a line `LANE EPOCH` for each.
#[derive(Debug)]
pub(super) struct Lanes {
    path: PathBuf,
}

impl Lanes {
    pub(super) fn of(data_dir: &Path, bridge: &str) -> Self {
        let path = data_dir.join("bridges").join(format!("{bridge}.lanes"));
        Self { path }
    }

    /// Whether any queue has one.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// The lane of the queue with this epoch, and where what it has released is remembered; one that is free where it has
    /// none yet, once `begin` has said that it begins there. `None` when all are taken.
    ///
    /// # Errors
    /// When it cannot be read or remembered.
    pub(super) fn take(
        &self,
        epoch: u64,
        begin: impl FnOnce(Ids, &Path) -> io::Result<()>,
    ) -> io::Result<Option<(Ids, PathBuf)>> {
        let mut known = self.read()?;
        let released = |lane| self.path.with_extension(format!("released-{lane}"));
        let mine = known.iter().find(|(_, of)| *of == epoch);
        let lane = match mine {
            Some((lane, _)) => *lane,
            None => {
                let is_free = |lane: &u16| known.iter().all(|(taken, _)| taken != lane);
                let Some(lane) = (0..LANES).find(is_free) else {
                    return Ok(None);
                };
                begin(Ids::lane(lane), &released(lane))?;
                known.push((lane, epoch));
                self.write(&known)?;
                lane
            }
        };
        Ok(Some((Ids::lane(lane), released(lane))))
    }

    /// Only the lanes of these queues are in use: the others are free again.
    ///
    /// # Errors
    /// When it cannot be read or remembered.
    pub(super) fn keep(&self, epochs: &[u64]) -> io::Result<()> {
        let mut known = self.read()?;
        let gone: Vec<u16> = known
            .iter()
            .filter(|(_, of)| !epochs.contains(of))
            .map(|(lane, _)| *lane)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        for lane in &gone {
            super::mirror::remove(&self.path.with_extension(format!("released-{lane}")))?;
        }
        known.retain(|(lane, _)| !gone.contains(lane));
        if known.is_empty() {
            return super::mirror::remove(&self.path);
        }
        self.write(&known)
    }

    /// What cannot be read is never taken for free: two queues would share a lane.
    fn read(&self) -> io::Result<Vec<(u16, u64)>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let line = |line: &str| {
            let (lane, epoch) = line.split_once(' ')?;
            let lane = lane.parse().ok().filter(|lane| *lane < LANES)?;
            Some((lane, epoch.parse().ok()?))
        };
        let lines: Option<Vec<_>> = text.lines().map(line).collect();
        lines.ok_or_else(|| {
            let message = format!("{} has a line that is no lane", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    fn write(&self, lanes: &[(u16, u64)]) -> io::Result<()> {
        let mut text = String::new();
        for (lane, epoch) in lanes {
            // A text cannot refuse to be written to.
            let _ = writeln!(text, "{lane} {epoch}");
        }
        let beside = self.path.with_extension("lanes-new");
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(beside, &self.path)?;
        // Where folders cannot be opened, their entries need no syncing.
        let folder = self
            .path
            .parent()
            .and_then(|folder| File::open(folder).ok());
        folder.map_or(Ok(()), |folder| folder.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_of_two_queues_never_meet() {
        let mut all = vec![Ids::OUT];
        all.extend((0..LANES).map(Ids::lane));
        let mut ids: Vec<u16> = all
            .iter()
            .flat_map(|ids| (0..u64::from(ids.many)).map(|seq| ids.of(seq)))
            .collect();
        let many = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), many);
        assert!(
            ids.iter()
                .all(|id| { *id > 0 && (*id < RING_IDS || *id >= LANE_IDS) && *id < ASK_IDS })
        );
        const { assert!(u16::MAX - ASK_IDS > MAX_INFLIGHT + 1024) };
    }

    #[test]
    fn a_queue_keeps_its_lane_over_restarts_until_the_session_begins_anew_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let lanes = || Lanes::of(folder.path(), "hq");
        let take = |epoch| lanes().take(epoch, |_, _| Ok(()));
        assert!(!lanes().is_there());
        let (first, file) = take(7).unwrap().unwrap();
        let (second, other) = take(8).unwrap().unwrap();
        assert!(first != second && file != other);
        assert_eq!(take(7).unwrap().unwrap(), (first, file.clone()));
        std::fs::write(&file, "x").unwrap();
        lanes().keep(&[8]).unwrap();
        assert!(!file.exists());
        assert_eq!(take(9).unwrap().unwrap().0, first);
        assert_eq!(take(8).unwrap().unwrap().0, second);
        lanes().keep(&[]).unwrap();
        assert!(!lanes().is_there());
    }

    #[test]
    fn lanes_that_cannot_be_read_are_not_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let lanes = Lanes::of(folder.path(), "hq");
        std::fs::create_dir(folder.path().join("bridges")).unwrap();
        std::fs::write(&lanes.path, "0 7\n1\n").unwrap();
        assert!(lanes.take(8, |_, _| Ok(())).is_err());
        assert!(lanes.keep(&[7]).is_err());
        std::fs::remove_file(&lanes.path).unwrap();
        // A folder cannot be read as a file, whoever tries.
        std::fs::create_dir(&lanes.path).unwrap();
        assert!(lanes.take(8, |_, _| Ok(())).is_err());
    }

    #[test]
    fn the_lanes_come_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let lanes = Lanes::of(folder.path(), "hq");
        for epoch in 0..u64::from(LANES) {
            assert!(lanes.take(epoch, |_, _| Ok(())).unwrap().is_some());
        }
        assert_eq!(lanes.take(1000, |_, _| Ok(())).unwrap(), None);
    }
}
