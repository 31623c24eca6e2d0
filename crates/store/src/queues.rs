//! Queues of rows: what is known of them in memory, and how their rows are read back from the files.
//!
//! Of a row that waits its size is kept (four bytes), and of each 64 KiB of a file where they begin. The oldest rows that
//! arrived while nothing waited in front of them are kept whole, up to 1 MiB, so that who keeps up reads no file.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::body::{self, Head, Part, QueueId, Read};
use crate::committer::Trouble;
use crate::frame::{Found, Frames};

/// Rows of a queue that are kept whole.
const WINDOW_BYTES: usize = 1 << 20;
/// The part of a file that is read for one row.
pub(crate) const SPOT_BYTES: u64 = 64 << 10;

/// A number that nobody can guess.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// A file that has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    Segment(u64),
    Snapshot(u64),
    Rows(u64),
}

/// Where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
    pub(crate) salt: u32,
}

/// Rows that nobody can read any more: what they stood in is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The name of the queue.
    pub queue: String,
    /// The number of the first one.
    pub from: u64,
    /// The number of the last one.
    pub to: u64,
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// All rows before this number are settled.
    pub head: u64,
    /// The number of the row that comes next.
    pub tail: u64,
    /// Rows that wait.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Rows with consecutive numbers, near to one another in one file.
struct Spot {
    place: Place,
    sizes: Vec<u32>,
}

impl Spot {
    fn len(&self) -> u64 {
        self.sizes.len() as u64
    }

    /// The sizes of the rows behind `settled`, when the first of all has the number `first`.
    fn behind(&self, first: u64, settled: u64) -> &[u32] {
        let gone = (settled + 1).saturating_sub(first).min(self.len());
        &self.sizes[usize::try_from(gone).unwrap_or(self.sizes.len())..]
    }
}

fn total(sizes: &[u32]) -> u64 {
    sizes.iter().map(|size| u64::from(*size)).sum()
}

#[derive(Default)]
struct Inner {
    next: u64,
    settled: u64,
    skips: Vec<(u64, u64)>,
    /// By the number of the first row.
    spots: BTreeMap<u64, Spot>,
    rows: u64,
    bytes: u64,
    window: VecDeque<Bytes>,
    window_first: u64,
    window_bytes: usize,
    /// What was read from a file last, in order.
    loaded: Read,
    /// It is among those whose settling is yet to be written.
    unwritten: bool,
}

impl Inner {
    /// Takes note of rows in a file; of those that are known or settled already there is none.
    fn add(&mut self, first: u64, sizes: &[u32], place: Place) {
        let mut rest = sizes;
        let mut seq = first;
        let skip = |rest: &mut &[u32], seq: &mut u64, count: u64| {
            let count = usize::try_from(count).map_or(rest.len(), |count| count.min(rest.len()));
            let (skipped, behind) = rest.split_at(count);
            *rest = behind;
            *seq += count as u64;
            total(skipped)
        };
        while !rest.is_empty() {
            if seq <= self.settled {
                let settled = self.settled + 1 - seq;
                skip(&mut rest, &mut seq, settled);
                continue;
            }
            if let Some(end) = self.skipped(seq) {
                let count = end + 1 - seq;
                skip(&mut rest, &mut seq, count);
                continue;
            }
            let spot = self.spots.range(seq + 1..).next().map(|(seq, _)| *seq);
            let skips = self.skips.get(self.skips_before(seq));
            let until = spot.into_iter().chain(skips.map(|(from, _)| *from)).min();
            let count = until.map_or(u64::MAX, |until| until - seq);
            let before = self.spots.range_mut(..=seq).next_back();
            if let Some((start, spot)) = before {
                let end = *start + spot.len();
                if seq < end {
                    let known = end - seq;
                    skip(&mut rest, &mut seq, known);
                    continue;
                }
                let near = spot.place.file == place.file
                    && place
                        .offset
                        .checked_sub(spot.place.offset)
                        .is_some_and(|distance| distance < SPOT_BYTES);
                if seq == end && near {
                    let run = &rest[..usize::try_from(count)
                        .map_or(rest.len(), |count| count.min(rest.len()))];
                    spot.sizes.extend_from_slice(run);
                    self.rows += run.len() as u64;
                    self.bytes += skip(&mut rest, &mut seq, count);
                    continue;
                }
                spot.sizes.shrink_to_fit();
            }
            let run =
                &rest[..usize::try_from(count).map_or(rest.len(), |count| count.min(rest.len()))];
            let spot = Spot {
                place,
                sizes: run.to_vec(),
            };
            self.rows += spot.len();
            self.spots.insert(seq, spot);
            self.bytes += skip(&mut rest, &mut seq, count);
        }
    }

    /// Whether anything was settled.
    fn settle(&mut self, up_to: u64) -> bool {
        let up_to = up_to.min(self.next - 1);
        if up_to <= self.settled {
            return false;
        }
        while let Some(entry) = self.spots.first_entry() {
            let first = *entry.key();
            if first > up_to {
                break;
            }
            let spot = entry.get();
            let (before, after) = (spot.behind(first, self.settled), spot.behind(first, up_to));
            self.rows -= (before.len() - after.len()) as u64;
            self.bytes -= total(&before[..before.len() - after.len()]);
            if !after.is_empty() {
                break;
            }
            entry.remove();
        }
        self.settled = up_to;
        while self.window_first <= up_to
            && let Some(row) = self.window.pop_front()
        {
            self.window_first += 1;
            self.window_bytes -= row.len();
        }
        if self.loaded.last().is_some_and(|(seq, _)| *seq <= up_to) {
            self.loaded = Vec::new();
        }
        self.skips.retain(|(_, to)| *to > up_to);
        true
    }

    fn keep(&mut self, seq: u64, row: Bytes) {
        if self.window.is_empty() {
            self.window_first = seq;
        } else if self.window_first + self.window.len() as u64 != seq
            || self.window_bytes + row.len() > WINDOW_BYTES
        {
            return;
        }
        self.window_bytes += row.len();
        self.window.push_back(row);
    }

    /// How many of the skips end before this number.
    fn skips_before(&self, seq: u64) -> usize {
        self.skips.partition_point(|(_, to)| *to < seq)
    }

    /// Where the skip ends that this number is in.
    fn skipped(&self, seq: u64) -> Option<u64> {
        let (from, to) = self.skips.get(self.skips_before(seq))?;
        (*from <= seq).then_some(*to)
    }

    /// These numbers are those of no rows. Skips stay in order and apart.
    fn skip(&mut self, mut from: u64, mut to: u64) {
        let first = self.skips.partition_point(|(_, end)| end + 1 < from);
        let mut behind = first;
        while let Some((start, end)) = self.skips.get(behind)
            && *start <= to + 1
        {
            (from, to) = (from.min(*start), to.max(*end));
            behind += 1;
        }
        self.skips.splice(first..behind, [(from, to)]);
    }

    /// Rows are consumed that may stand behind others which are not.
    fn take(&mut self, from: u64, to: u64) {
        let (from, to) = (from.max(self.settled + 1), to.min(self.next - 1));
        if from > to {
            return;
        }
        while let Some((first, spot)) = self.spots.range(..=to).next_back()
            && first + spot.len() > from
        {
            let first = *first;
            let Some(mut spot) = self.spots.remove(&first) else {
                break;
            };
            let cut = |at: u64| usize::try_from(at.saturating_sub(first)).unwrap_or(usize::MAX);
            let behind = spot.sizes.split_off(cut(to + 1).min(spot.sizes.len()));
            let gone = spot.sizes.split_off(cut(from));
            self.rows -= gone.len() as u64;
            self.bytes -= total(&gone);
            if !behind.is_empty() {
                let place = spot.place;
                self.spots.insert(
                    to + 1,
                    Spot {
                        place,
                        sizes: behind,
                    },
                );
            }
            if !spot.behind(first, self.settled).is_empty() {
                self.spots.insert(first, spot);
            }
        }
        self.skip(from, to);
    }

    /// Numbers that were given and that no file has.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut known: Vec<(u64, u64)> = self.skips.clone();
        let spots = self.spots.iter();
        known.extend(spots.map(|(first, spot)| (*first, first + spot.len() - 1)));
        known.push((self.next, self.next));
        known.sort_unstable();
        let (mut at, mut gaps) = (self.settled + 1, Vec::new());
        for (from, to) in known {
            if from > at {
                gaps.push((at, from - 1));
            }
            at = at.max(to + 1);
        }
        gaps
    }

    /// Takes the spot that begins with `first` away.
    fn forget(&mut self, first: u64) {
        if let Some(spot) = self.spots.remove(&first) {
            let left = spot.behind(first, self.settled);
            self.rows -= left.len() as u64;
            self.bytes -= total(left);
        }
    }

    /// Gives rows that are in memory, from `seq` on, as long as there is room. What has to be read from a file else.
    fn give(&self, seq: &mut u64, room: &mut Room, out: &mut Read) -> Option<(u64, u64, Place)> {
        *seq = (*seq).max(self.settled + 1);
        loop {
            if let Some(end) = self.skipped(*seq) {
                *seq = end + 1;
                continue;
            }
            let in_window = seq
                .checked_sub(self.window_first)
                .and_then(|at| self.window.get(usize::try_from(at).ok()?));
            let row = in_window.or_else(|| {
                let at = self.loaded.binary_search_by_key(seq, |(seq, _)| *seq);
                at.ok().map(|at| &self.loaded[at].1)
            });
            if let Some(row) = row {
                if !room.take(row.len(), out.is_empty()) {
                    return None;
                }
                out.push((*seq, row.clone()));
                *seq += 1;
                continue;
            }
            if !room.is_left(out.is_empty()) {
                return None;
            }
            match self.spots.range(..=*seq).next_back() {
                Some((first, spot)) if *seq < first + spot.len() => {
                    return Some((*first, spot.len(), spot.place));
                }
                // Behind a gap.
                _ => *seq = *self.spots.range(*seq + 1..).next()?.0,
            }
        }
    }
}

struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    fn new(rows: usize, bytes: usize) -> Self {
        Self {
            rows: rows.max(1),
            bytes,
        }
    }

    fn is_left(&self, is_first: bool) -> bool {
        self.rows > 0 && (is_first || self.bytes > 0)
    }

    fn take(&mut self, bytes: usize, is_first: bool) -> bool {
        if self.rows == 0 || (!is_first && bytes > self.bytes) {
            return false;
        }
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

type Wake = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct State {
    id: QueueId,
    epoch: u64,
    name: String,
    inner: Mutex<Inner>,
    wake: Mutex<Option<Wake>>,
}

impl State {
    fn new(head: Head) -> Self {
        Self {
            id: head.id,
            epoch: head.epoch,
            name: head.name,
            inner: Mutex::new(Inner {
                next: head.next,
                settled: head.settled,
                skips: head.skips,
                ..Inner::default()
            }),
            wake: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> QueueId {
        self.id
    }

    pub(crate) fn next(&self) -> u64 {
        self.inner.lock().next
    }

    /// Rows that are kept from now on.
    pub(crate) fn arrived(&self, first: u64, rows: Vec<Bytes>, place: Place) {
        let sizes: Vec<u32> = rows
            .iter()
            .map(|row| u32::try_from(row.len()).expect("batches are bounded"))
            .collect();
        let mut inner = self.inner.lock();
        inner.next = first + rows.len() as u64;
        inner.add(first, &sizes, place);
        for (seq, row) in (first..).zip(rows) {
            inner.keep(seq, row);
        }
    }

    /// A row is consumed from now on.
    pub(crate) fn taken(&self, seq: u64) {
        self.inner.lock().take(seq, seq);
    }

    pub(crate) fn wake(&self) {
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn head(&self) -> Head {
        let inner = self.inner.lock();
        Head {
            id: self.id,
            epoch: self.epoch,
            name: self.name.clone(),
            next: inner.next,
            settled: inner.settled,
            skips: inner.skips.clone(),
        }
    }

    fn gap(&self, (from, to): (u64, u64)) -> Gap {
        Gap {
            queue: self.name.clone(),
            from,
            to,
        }
    }
}

type ReadFile = Box<dyn Fn(FileId, u64) -> io::Result<Box<dyn io::Read>> + Send + Sync>;
type Tell = Arc<dyn Fn(Trouble) + Send + Sync>;

#[derive(Default)]
struct Table {
    by_id: HashMap<QueueId, Arc<State>>,
    names: BTreeMap<String, QueueId>,
    dropped: HashSet<QueueId>,
}

/// All queues of a log.
pub(crate) struct Queues {
    table: Mutex<Table>,
    /// Queues of which more is settled than was written.
    unwritten: Mutex<Vec<Arc<State>>>,
    read: ReadFile,
    nudge: Mutex<Option<Wake>>,
    tell: Mutex<Option<Tell>>,
    /// One queue is made at a time.
    pub(crate) making: Mutex<()>,
    ended: AtomicBool,
}

/// What a snapshot needs to know of the queues.
pub(crate) struct Heads {
    pub(crate) heads: Vec<Head>,
    /// Bytes of rows that are not settled and of their sizes, by file.
    pub(crate) live: HashMap<FileId, u64>,
}

impl Queues {
    pub(crate) fn new(read: ReadFile) -> Self {
        Self {
            table: Mutex::default(),
            unwritten: Mutex::default(),
            read,
            nudge: Mutex::default(),
            tell: Mutex::default(),
            making: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// Who is told when something was settled, and of trouble.
    pub(crate) fn owner(&self, nudge: Wake, tell: Tell) {
        *self.nudge.lock() = Some(nudge);
        *self.tell.lock() = Some(tell);
    }

    pub(crate) fn tell(&self, trouble: Trouble) {
        let tell = self.tell.lock().clone();
        if let Some(tell) = tell {
            tell(trouble);
        }
    }

    /// Nothing is written from now on.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        *self.nudge.lock() = None;
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<Arc<State>> {
        self.table.lock().by_id.get(&id).cloned()
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<State>> {
        let table = self.table.lock();
        table.by_id.get(table.names.get(name)?).cloned()
    }

    /// The first of the ids that no queue ever had.
    pub(crate) fn unknown(&self, rows: &[(QueueId, Bytes)]) -> Option<QueueId> {
        let table = self.table.lock();
        let mut ids = rows.iter().map(|(id, _)| *id);
        ids.find(|id| !table.by_id.contains_key(id) && !table.dropped.contains(id))
    }

    /// The head of a queue that is not there yet.
    pub(crate) fn new_head(&self, name: &str) -> Head {
        let id = loop {
            let id = random();
            if self.get(id).is_none() {
                break id;
            }
        };
        Head {
            id,
            epoch: random() >> 1,
            name: name.to_owned(),
            next: 1,
            settled: 0,
            skips: Vec::new(),
        }
    }

    pub(crate) fn insert(&self, head: Head) -> Arc<State> {
        let state = Arc::new(State::new(head));
        let mut table = self.table.lock();
        table.names.insert(state.name.clone(), state.id);
        table.by_id.insert(state.id, Arc::clone(&state));
        state
    }

    pub(crate) fn remove(&self, id: QueueId) {
        let mut table = self.table.lock();
        table.dropped.insert(id);
        if let Some(state) = table.by_id.remove(&id)
            && table.names.get(&state.name) == Some(&id)
        {
            table.names.remove(&state.name);
        }
    }

    fn all(&self) -> Vec<Arc<State>> {
        let table = self.table.lock();
        let ids = table.names.values();
        ids.filter_map(|id| table.by_id.get(id).cloned()).collect()
    }

    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.all().iter().map(|state| standing(state)).collect()
    }

    pub(crate) fn heads(&self) -> Heads {
        let (mut heads, mut live) = (Vec::new(), HashMap::new());
        for state in self.all() {
            // What is settled and what is live must be of one moment: a file goes only when the snapshot says that its
            // rows are settled.
            let inner = state.inner.lock();
            for (first, spot) in &inner.spots {
                let left = spot.behind(*first, inner.settled);
                *live.entry(spot.place.file).or_insert(0) += total(left) + 4 * left.len() as u64;
            }
            let head = Head {
                id: state.id,
                epoch: state.epoch,
                name: state.name.clone(),
                next: inner.next,
                settled: inner.settled,
                skips: inner.skips.clone(),
            };
            drop(inner);
            heads.push(head);
        }
        Heads { heads, live }
    }

    /// Bytes of all rows that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.all()
            .iter()
            .map(|state| state.inner.lock().bytes)
            .sum()
    }

    /// What was settled and not written yet; it counts as written.
    pub(crate) fn take_unwritten(&self) -> Vec<Arc<State>> {
        std::mem::take(&mut *self.unwritten.lock())
    }

    pub(crate) fn settled(state: &State) -> (QueueId, u64) {
        let mut inner = state.inner.lock();
        inner.unwritten = false;
        (state.id, inner.settled)
    }

    /// It was not written after all.
    pub(crate) fn put_back(&self, states: Vec<Arc<State>>) {
        for state in states {
            self.note_unwritten(state);
        }
    }

    fn note_unwritten(&self, state: Arc<State>) -> bool {
        if std::mem::replace(&mut state.inner.lock().unwritten, true) {
            return false;
        }
        let mut unwritten = self.unwritten.lock();
        unwritten.push(state);
        unwritten.len() == 1
    }

    /// A part of a file that is being opened. `carried`: it stood behind a tear.
    pub(crate) fn recover(&self, part: Part<'_>, place: Place, carried: bool) {
        match part {
            Part::Rows(rows) => {
                // Else the queue was dropped, or what it was made by was never acknowledged.
                let Some(state) = self.get(rows.queue) else {
                    return;
                };
                let mut inner = state.inner.lock();
                if carried && rows.first > inner.next {
                    let (from, to) = (inner.next, rows.first - 1);
                    inner.skip(from, to);
                }
                inner.next = inner.next.max(rows.first + rows.sizes.len() as u64);
                inner.add(rows.first, &rows.sizes, place);
            }
            Part::Settled(id, up_to) => {
                if let Some(state) = self.get(id) {
                    let mut inner = state.inner.lock();
                    inner.next = inner.next.max(up_to + 1);
                    inner.settle(up_to);
                }
            }
            Part::Head(head) => match self.get(head.id) {
                None => drop(self.insert(head)),
                Some(state) => {
                    let mut inner = state.inner.lock();
                    inner.next = inner.next.max(head.next);
                    inner.settle(head.settled);
                    for (from, to) in head.skips {
                        inner.take(from, to);
                    }
                }
            },
            Part::Dropped(id) => self.remove(id),
            Part::Taken(id, seq) => {
                if let Some(state) = self.get(id) {
                    let mut inner = state.inner.lock();
                    inner.next = inner.next.max(seq + 1);
                    inner.take(seq, seq);
                }
            }
            Part::Records(_) | Part::Carried | Part::End => {}
        }
    }

    /// Numbers that may have been given to rows of which nothing is left are not given again. Gives all heads.
    pub(crate) fn skip(&self, count: u64) -> Vec<Head> {
        let states = self.all();
        let each = states.iter().map(|state| {
            let mut inner = state.inner.lock();
            let (from, to) = (inner.next, inner.next + count - 1);
            inner.skip(from, to);
            inner.next = to + 1;
            drop(inner);
            state.head()
        });
        each.collect()
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let states = self.all();
        let each = states.iter().flat_map(|state| {
            let gaps = state.inner.lock().gaps();
            gaps.into_iter().map(|gap| state.gap(gap))
        });
        each.collect()
    }

    /// Files with rows that are not settled.
    pub(crate) fn files(&self) -> HashSet<FileId> {
        let mut files = HashSet::new();
        for state in self.all() {
            let inner = state.inner.lock();
            files.extend(inner.spots.values().map(|spot| spot.place.file));
        }
        files
    }

    /// Rows have moved: `gone` are the files that they stood in. Gives those that are nowhere now.
    pub(crate) fn moved(&self, gone: &HashSet<FileId>, moved: &Moved) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for state in self.all() {
            let mut inner = state.inner.lock();
            let before = inner.gaps();
            let old = inner.spots.iter();
            let old: Vec<u64> = old
                .filter(|(_, spot)| gone.contains(&spot.place.file))
                .map(|(first, _)| *first)
                .collect();
            old.iter().for_each(|first| inner.forget(*first));
            for (first, sizes, place) in moved.get(&state.id).into_iter().flatten() {
                inner.add(*first, sizes, *place);
            }
            let after = inner.gaps();
            drop(inner);
            let new = after.into_iter().filter(|gap| !before.contains(gap));
            gaps.extend(new.map(|gap| state.gap(gap)));
        }
        gaps
    }

    /// The rows of a spot, as they are in its file.
    fn load(&self, id: QueueId, first: u64, count: u64, place: Place) -> io::Result<Read> {
        let mut frames = Frames::new((self.read)(place.file, place.offset)?, place.salt);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let (mut at, mut ended) = (0, false);
        while !ended && at < SPOT_BYTES {
            let frame = match frames.next()? {
                Found::End => break,
                Found::Bad(bad) => {
                    at += bad;
                    continue;
                }
                Found::Frame(frame, length) => {
                    at += length;
                    frame
                }
            };
            // What cannot be understood is not there: who reads is told.
            let _ = body::parts(&frame.batch, &mut |part| {
                let Part::Rows(rows) = part else { return };
                if rows.queue != id {
                    return;
                }
                for (seq, row) in rows.each() {
                    if (first..first + count).contains(&seq) {
                        bytes.extend_from_slice(row);
                        ends.push((seq, bytes.len()));
                        ended = seq + 1 == first + count;
                    }
                }
            });
        }
        let bytes = Bytes::from(bytes);
        let mut start = 0;
        let rows = ends.into_iter().map(|(seq, end)| {
            let row = bytes.slice(start..end);
            start = end;
            (seq, row)
        });
        Ok(rows.collect())
    }
}

/// Where rows are now, by queue: the number of the first, their sizes, the place.
pub(crate) type Moved = HashMap<QueueId, Vec<(u64, Vec<u32>, Place)>>;

fn standing(state: &State) -> Standing {
    let inner = state.inner.lock();
    Standing {
        name: state.name.clone(),
        head: inner.settled + 1,
        tail: inner.next,
        rows: inner.rows,
        bytes: inner.bytes,
    }
}

/// A queue of rows: they are put in by [`Committer::commit`](crate::Committer::commit), and read here.
#[derive(Clone)]
pub struct Queue {
    state: Arc<State>,
    queues: Arc<Queues>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.standing().fmt(to)
    }
}

impl Queue {
    pub(crate) fn new(state: Arc<State>, queues: Arc<Queues>) -> Self {
        Self { state, queues }
    }

    /// What names it in a [`Batch`](crate::Batch).
    pub fn id(&self) -> QueueId {
        self.state.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// A random number of 63 bits that was made with it: numbers of rows mean nothing beside those of another epoch.
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    /// All of how it stands, at one moment.
    pub fn standing(&self) -> Standing {
        standing(&self.state)
    }

    /// All rows before this number are settled.
    pub fn head(&self) -> u64 {
        self.standing().head
    }

    /// The number of the row that comes next.
    pub fn tail(&self) -> u64 {
        self.standing().tail
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.standing().rows
    }

    /// The bytes of the rows that wait.
    pub fn bytes(&self) -> u64 {
        self.standing().bytes
    }

    /// Rows that are kept and not settled, in order from number `from` on: at least one if there is one, then as long as
    /// they are no more than `most_rows` and `most_bytes`. It may wait for a file.
    ///
    /// Where rows were lost with what they stood in, it goes on behind them; whoever opened the store was told.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        let (mut seq, mut out) = (from, Vec::new());
        let mut room = Room::new(most_rows, most_bytes);
        loop {
            let wanted = self.state.inner.lock().give(&mut seq, &mut room, &mut out);
            let Some((first, count, place)) = wanted else {
                return Ok(out);
            };
            let loaded = self.queues.load(self.state.id, first, count, place);
            let mut inner = self.state.inner.lock();
            let spot = inner.spots.get(&first);
            // Else a snapshot has moved it, or it is settled meanwhile.
            if spot.is_none_or(|spot| spot.place != place) {
                continue;
            }
            let loaded = loaded?;
            let gaps = if loaded.len() as u64 == count {
                Vec::new()
            } else {
                let before = inner.gaps();
                inner.lose(first, count, &loaded, place);
                let after = inner.gaps();
                after
                    .into_iter()
                    .filter(|gap| !before.contains(gap))
                    .collect()
            };
            inner.loaded = loaded;
            drop(inner);
            for gap in gaps {
                self.queues.tell(Trouble::Gap(self.state.gap(gap)));
            }
        }
    }

    /// The same where all of it is in memory; else `None`.
    pub fn read_at_hand(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        let (mut seq, mut out) = (from, Vec::new());
        let mut room = Room::new(most_rows, most_bytes);
        let inner = self.state.inner.lock();
        let from_file = inner.give(&mut seq, &mut room, &mut out);
        from_file.is_none().then_some(out)
    }

    /// All rows up to this number are consumed. Nobody waits for it: it is written with what comes next, or after a moment,
    /// and after a crash some of these rows may be there again.
    pub fn settle(&self, up_to: u64) {
        if !self.state.inner.lock().settle(up_to) || self.queues.ended.load(Ordering::Acquire) {
            return;
        }
        if self.queues.note_unwritten(Arc::clone(&self.state)) {
            let nudge = self.queues.nudge.lock().clone();
            if let Some(nudge) = nudge {
                nudge();
            }
        }
    }

    /// `wake` is called after rows have become readable, on the committer's thread: it must not wait. It takes the place of
    /// the one before, and is not called for rows that are there already.
    pub fn on_arrival(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.state.wake.lock() = Some(Arc::new(wake));
    }
}

impl Inner {
    /// Of `count` rows from `first` on only these are there.
    fn lose(&mut self, first: u64, count: u64, found: &Read, place: Place) {
        // As long as it is not settled it may have grown since.
        let grown = self.spots.get(&first).map(|spot| spot.sizes.clone());
        self.forget(first);
        for (seq, row) in found {
            let size = u32::try_from(row.len()).unwrap_or(u32::MAX);
            self.add(*seq, &[size], place);
        }
        if let Some(sizes) = grown
            && let Some(behind) = usize::try_from(count)
                .ok()
                .and_then(|count| sizes.get(count..))
        {
            self.add(first + count, behind, place);
        }
    }
}
