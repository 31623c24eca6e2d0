//! Reading the files in order: what is a frame, what is a tear, what is damage, and what is missing.

use std::collections::HashMap;
use std::io::{self, Read as _};

use crate::body::{self, Part};
use crate::disk::{Disk, DiskFile};
use crate::frame::{self, Found, Frames};
use crate::queues::{FileId, Place};

use super::files::{
    DAMAGED, HEAD_BYTES, MAGIC, SEGMENT, UNFINISHED, file_name, name_of, salt_of, understood,
};
use super::{Damage, Missing, OpenError, Recovered};

/// Bytes that are no frame, and the frames behind them up to the next such place.
struct Hole {
    at: u64,
    bytes: u64,
    behind: Vec<(frame::Frame, u64)>,
}

pub(super) type Take<'t> = dyn FnMut(&[u8], Place) -> Result<(), OpenError> + 't;

type FileFrames = Frames<Box<dyn io::Read>>;

/// Reads the files of a log in order.
pub(super) struct Reader<'d, D: Disk> {
    disk: &'d D,
    /// Takes the body of each frame.
    take: &'d mut Take<'d>,
    /// The number of the last frame.
    pub(super) last: u64,
    /// The highest number that any frame says was synced.
    pub(super) synced: u64,
    /// Bodies behind a tear: they go into the next segment.
    pub(super) carried: Vec<Vec<u8>>,
    /// The segments that end in a tear, and where they are to be cut.
    pub(super) torn: Vec<(u64, u64)>,
    /// Whether it is an error when there can be no copy of what is damaged.
    pub(super) must_copy: bool,
    /// What is damaged was told, and a copy of it is there.
    pub(super) looks_again: bool,
    /// The snapshot stands for all segments before this one.
    from: u64,
    /// The snapshot or segment that was read last.
    before: Option<String>,
    /// Where the segments end that were read.
    ends: HashMap<u64, u64>,
    /// So many frames may have stood in the damage behind the last frame.
    hidden: u64,
    /// Frames are missing, and nobody knows how long they were.
    pub(super) misses_frames: bool,
    pub(super) recovered: Recovered,
}

impl<'d, D: Disk> Reader<'d, D> {
    pub(super) fn new(disk: &'d D, from: u64, take: &'d mut Take<'d>) -> Self {
        Self {
            disk,
            take,
            last: 0,
            synced: 0,
            carried: Vec::new(),
            torn: Vec::new(),
            must_copy: false,
            looks_again: false,
            from,
            before: None,
            ends: HashMap::new(),
            hidden: 0,
            misses_frames: false,
            recovered: Recovered::default(),
        }
    }

    /// The head of a file: its salt if there is one, and whether it is sound. `None` where a crash came before anything
    /// was written to it.
    fn head(&self, name: &str) -> Result<Option<(Option<u32>, bool)>, OpenError> {
        let mut head = Vec::new();
        let file = self.disk.read(name, 0).map_err(OpenError::io(name))?;
        file.take(HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(OpenError::io(name))?;
        let version = MAGIC.len() - 1;
        let (salt, sound) = salt_of(&head);
        let is_ours = head.starts_with(&MAGIC[..version]);
        if is_ours && head.len() > version && head[version] != MAGIC[version] {
            return Err(OpenError::Version {
                name: name.to_owned(),
            });
        }
        if head.len() < HEAD_BYTES || (salt.is_none() && self.is_zero(name)?) {
            return Ok(None);
        }
        Ok(Some((salt, sound)))
    }

    /// The frames of a file and its salt; `None` where there are none. A head that is not sound is damage.
    fn frames(&mut self, name: &str) -> Result<Option<(FileFrames, u32)>, OpenError> {
        let Some((salt, sound)) = self.head(name)? else {
            return Ok(None);
        };
        let Some(salt) = salt else {
            let length = self.disk.length(name).map_err(OpenError::io(name))?;
            self.damaged(name, 0, length)?;
            self.hides(length);
            return Ok(None);
        };
        if !sound {
            self.damaged(name, 0, HEAD_BYTES as u64)?;
        }
        Ok(Some((self.body(name, salt)?, salt)))
    }

    fn body(&self, name: &str, salt: u32) -> Result<FileFrames, OpenError> {
        let file = self.disk.read(name, HEAD_BYTES as u64);
        Ok(Frames::new(file.map_err(OpenError::io(name))?, salt))
    }

    fn is_zero(&self, name: &str) -> Result<bool, OpenError> {
        let mut file = self.disk.read(name, 0).map_err(OpenError::io(name))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(OpenError::io(name))? {
                0 => return Ok(true),
                count if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Whether nothing was ever written to a file.
    pub(super) fn is_empty(&self, name: &str) -> Result<bool, OpenError> {
        let length = self.disk.length(name).map_err(OpenError::io(name))?;
        match self.head(name)? {
            Some((salt, _)) => Ok(salt.is_some() && length <= HEAD_BYTES as u64),
            None => Ok(true),
        }
    }

    /// Whether a segment has a whole frame, or is damaged in a way that hides it.
    pub(super) fn has_frame(&self, number: u64) -> Result<bool, OpenError> {
        let name = name_of(SEGMENT, number);
        let salt = match self.head(&name)? {
            None => return Ok(false),
            Some((None, _)) => return Ok(true),
            Some((Some(salt), _)) => salt,
        };
        let mut frames = self.body(&name, salt)?;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
                Found::End => return Ok(false),
                Found::Frame(..) => return Ok(true),
                Found::Bad(_) => {}
            }
        }
    }

    /// Where segments end whose tails were carried into the next one.
    pub(super) fn cuts(&self, segments: &[u64]) -> Result<HashMap<u64, u64>, OpenError> {
        let mut cuts = HashMap::new();
        for number in segments {
            let name = name_of(SEGMENT, *number);
            let Some((Some(salt), _)) = self.head(&name)? else {
                continue;
            };
            let first = self.body(&name, salt)?.next();
            if let Found::Frame(frame, _) = first.map_err(OpenError::io(name))? {
                cuts.extend(body::cut_of(&frame.batch));
            }
        }
        Ok(cuts)
    }

    /// Takes the frames of a segment; gives its size.
    pub(super) fn segment(&mut self, number: u64, can_be_torn: bool) -> Result<u64, OpenError> {
        let end = self.frames_of_segment(number, can_be_torn)?;
        self.ends.insert(number, end);
        self.before = Some(name_of(SEGMENT, number));
        Ok(end)
    }

    fn frames_of_segment(&mut self, number: u64, can_be_torn: bool) -> Result<u64, OpenError> {
        let file = FileId::Segment(number);
        let name = file_name(file);
        let Some((mut frames, salt)) = self.frames(&name)? else {
            return self.disk.length(&name).map_err(OpenError::io(name));
        };
        let mut at = HEAD_BYTES as u64;
        let place = |offset| Place { file, offset, salt };
        // Bad bytes, and the frames behind them: only those tell a tear from damage.
        let mut holes: Vec<Hole> = Vec::new();
        let mut is_first = true;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
                Found::End => break,
                Found::Bad(bytes) => {
                    holes.push(Hole {
                        at,
                        bytes,
                        behind: Vec::new(),
                    });
                    at += bytes;
                }
                Found::Frame(frame, bytes) => {
                    match holes.last_mut() {
                        Some(hole) => hole.behind.push((frame, at)),
                        None => {
                            self.give_next(number, &frame, is_first, place(at))?;
                            is_first = false;
                        }
                    }
                    at += bytes;
                }
            }
        }
        for hole in 0..holes.len() {
            let rest = &holes[hole..];
            // Frames that were written before the hole was synced were not known to be safe either.
            let was_synced = rest
                .iter()
                .flat_map(|hole| &hole.behind)
                .any(|(frame, _)| frame.synced > self.last);
            if can_be_torn && !was_synced {
                let from = rest[0].at;
                self.torn.push((number, from));
                for hole in holes.drain(hole..) {
                    self.recovered.torn_bytes += hole.bytes;
                    // Whole frames behind it count: they may have been acknowledged, if this is damage after all.
                    for (frame, _) in hole.behind {
                        self.note(&frame);
                        self.carried.push(frame.batch);
                    }
                }
                return Ok(from);
            }
            let (from, bytes) = (rest[0].at, rest[0].bytes);
            self.damaged(&name, from, bytes)?;
            self.hides(bytes);
            for (frame, at) in std::mem::take(&mut holes[hole].behind) {
                self.give_next(number, &frame, is_first, place(at))?;
                is_first = false;
            }
        }
        if can_be_torn {
            // What was read may still be in the system's memory alone: what comes next must not stand on sand.
            self.disk
                .truncate(&name, at)
                .map_err(OpenError::io(name.as_str()))?;
        }
        Ok(at)
    }

    /// Takes a frame of a segment; `is_first`: of its frames that are there.
    fn give_next(
        &mut self,
        segment: u64,
        frame: &frame::Frame,
        is_first: bool,
        place: Place,
    ) -> Result<(), OpenError> {
        match body::cut_of(&frame.batch) {
            // What was carried over a tear counts on from behind it, and knows where the tear was.
            Some((torn, cut)) => {
                let end = self.ends.get(&torn).copied().unwrap_or(0);
                if torn >= self.from && cut > HEAD_BYTES as u64 && end < cut {
                    self.missing(segment, None);
                }
            }
            None => {
                // Damage where a segment ends or begins may be all that is left of more than its own bytes.
                self.misses_frames |= is_first && frame.number > self.last + 1;
                self.follows(segment, frame.number);
            }
        }
        self.hidden = 0;
        self.give(frame, place)
    }

    /// Frames are numbered through all segments: where one does not follow the last, and no damage can have held all
    /// between, those between are missing.
    pub(super) fn follows(&mut self, segment: u64, number: u64) {
        if number.saturating_sub(self.last + 1) > self.hidden {
            self.missing(segment, Some(number - 1));
        }
    }

    /// Frames are missing before those of a segment, or between them: up to number `to`.
    fn missing(&mut self, segment: u64, to: Option<u64>) {
        self.misses_frames = true;
        self.recovered.missing.push(Missing {
            from: self.last + 1,
            to,
            behind: self.before.clone(),
            before: name_of(SEGMENT, segment),
        });
    }

    /// Frames may have stood in damage of so many bytes, the last of them in part.
    fn hides(&mut self, bytes: u64) {
        let frames = bytes.div_ceil(frame::HEAD_BYTES as u64);
        self.hidden = self.hidden.saturating_add(frames);
    }

    /// Damage: it is kept aside and named.
    fn damaged(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), OpenError> {
        if self.looks_again {
            return Ok(());
        }
        let copy = format!("{DAMAGED}{name}");
        let known = self
            .recovered
            .damage
            .iter()
            .any(|damage| damage.copy == copy);
        if !known {
            let unfinished = format!("{UNFINISHED}{copy}");
            let keep = || -> io::Result<()> {
                let mut from = self.disk.read(name, 0)?;
                let mut to = self.disk.create(&unfinished)?;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match from.read(&mut buffer)? {
                        0 => break,
                        count => to.append(&buffer[..count])?,
                    }
                }
                to.sync()?;
                self.disk.rename(&unfinished, &copy)?;
                self.disk.sync_names()
            };
            // Without room for a copy the log is opened all the same: the file itself stays.
            if let Err(error) = keep() {
                let _ = self.disk.remove(&unfinished);
                if self.must_copy {
                    return Err(OpenError::Io { name: copy, error });
                }
            }
        }
        self.recovered.damage.push(Damage {
            file: name.to_owned(),
            at,
            bytes,
            copy,
        });
        Ok(())
    }

    fn note(&mut self, frame: &frame::Frame) {
        self.last = self.last.max(frame.number);
        self.synced = self.synced.max(frame.synced);
        self.recovered.batches += 1;
    }

    fn give(&mut self, frame: &frame::Frame, place: Place) -> Result<(), OpenError> {
        self.note(frame);
        (self.take)(&frame.batch, place)
    }

    /// Takes the frames of a file that was made as a whole; gives its size.
    pub(super) fn whole_file(&mut self, file: FileId) -> Result<u64, OpenError> {
        let (hidden, frames) = (self.hidden, self.recovered.batches);
        let bytes = self.frames_of_whole(file)?;
        self.hidden = hidden;
        if matches!(file, FileId::Snapshot(_)) {
            // Any of its frames has the number of the last one that it stands for.
            let is_lost = self.recovered.batches == frames;
            self.hidden = if is_lost { u64::MAX } else { 0 };
            self.before = Some(file_name(file));
        }
        Ok(bytes)
    }

    fn frames_of_whole(&mut self, file: FileId) -> Result<u64, OpenError> {
        let name = file_name(file);
        let damages = self.recovered.damage.len();
        let Some((mut frames, salt)) = self.frames(&name)? else {
            if self.recovered.damage.len() == damages {
                self.damaged(&name, 0, 0)?;
            }
            return self.disk.length(&name).map_err(OpenError::io(name));
        };
        let mut at = HEAD_BYTES as u64;
        let mut whole = false;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
                Found::End => break,
                Found::Bad(bytes) => {
                    self.damaged(&name, at, bytes)?;
                    at += bytes;
                }
                Found::Frame(frame, bytes) => {
                    whole = false;
                    understood(&frame.batch, file, &mut |part| {
                        whole |= matches!(part, Part::End);
                    })?;
                    let place = Place {
                        file,
                        offset: at,
                        salt,
                    };
                    self.give(&frame, place)?;
                    at += bytes;
                }
            }
        }
        if !whole {
            // It was synced before it got its name.
            self.damaged(&name, at, 0)?;
        }
        Ok(at)
    }
}
