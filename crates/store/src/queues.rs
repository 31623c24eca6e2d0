//! Queues of rows: what is known of them in memory, and how their rows are read back from the files.
//!
//! Of a row that waits its size is kept (four bytes), and of each 64 KiB of a file where they begin. The oldest rows that
//! arrived while nothing waited in front of them are kept whole, up to 1 MiB, so that who keeps up reads no file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::body::{self, Head, Part, QueueId, Read};
use crate::committer::Trouble;
use crate::frame::{Found, Frames};

mod handle;
mod waiting;

pub use handle::Queue;
use waiting::{Inner, total};

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
