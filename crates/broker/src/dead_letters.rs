//! Dead letters as an operator sees them: listed, tried again, dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use thiserror::Error;
use weir_sinks::dead_letter::DeadLetter;
use weir_sinks::dead_letter::file::read_line;
use weir_sinks::{RetryError, RowLog, SinkHandle, Standing};

use crate::reload::queues::{QueueOf, letters_name};
use crate::store::Storage;

/// So many letters are looked at, or moved, at a time.
const ROWS: usize = 256;
const BYTES: usize = 1 << 20;

/// Which letters are meant; all of those where nothing is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of the sink of this id.
    pub sink: Option<String>,
    /// With this code.
    pub code: Option<String>,
    /// That were parked at least so many seconds ago.
    pub older_than_s: Option<u64>,
    /// This one.
    pub id: Option<String>,
}

impl Filter {
    /// Whether it says which.
    pub fn is_all(&self) -> bool {
        let Self {
            rule,
            sink,
            code,
            older_than_s,
            id,
        } = self;
        [rule, sink, code, id].iter().all(|part| part.is_none()) && older_than_s.is_none()
    }

    fn is_of(&self, rule: &str, sink: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.rule, rule) && is(&self.sink, sink)
    }

    fn takes(&self, letter: &DeadLetter, now_ms: i64) -> bool {
        let code = self.code.as_deref();
        let age_s = (now_ms - letter.at_ms).max(0).unsigned_abs() / 1000;
        code.is_none_or(|code| code.eq_ignore_ascii_case(&letter.code))
            && self.older_than_s.is_none_or(|least| age_s >= least)
    }
}

/// The dead letters of all sinks.
#[derive(Clone)]
pub struct Letters {
    storage: Option<Arc<dyn Storage>>,
    /// A letter is retried or dropped once, whoever asks how often.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Why nothing can be said of dead letters.
#[derive(Debug, Error)]
pub enum LettersError {
    /// The broker keeps nothing.
    #[error(
        "this broker has no store (durability = \"memory\"): its dead letters are files in data_dir/dead_letters"
    )]
    NoStore,
    /// It is no id, or there is none of it.
    #[error("there is no such dead letter")]
    Unknown,
    /// The store cannot be read or written.
    #[error("the store cannot be used: {0}")]
    Store(#[from] std::io::Error),
}

/// Letters that were looked at.
#[derive(Debug, Default)]
pub struct Page {
    /// Each as JSON, oldest first within its sink.
    pub items: Vec<Json>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// What became of letters that were to be tried again.
#[derive(Debug, Default)]
pub struct Retried {
    /// They are in the queue of their sink.
    pub retried: u64,
    /// They stay, by rule and sink, and why.
    pub left: Vec<(String, String, String)>,
}

/// One sink's letters.
struct Pile {
    rule: String,
    sink: String,
    name: String,
    standing: Standing,
}

impl Letters {
    /// Those that `storage` has.
    pub(crate) fn new(storage: Option<Arc<dyn Storage>>) -> Self {
        let turn = Arc::default();
        Self { storage, turn }
    }

    fn storage(&self) -> Result<Arc<dyn Storage>, LettersError> {
        self.storage.clone().ok_or(LettersError::NoStore)
    }

    /// Those that a filter names, from the one behind `after` on, at most `limit`.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read.
    pub async fn list(
        &self,
        filter: Filter,
        after: Option<String>,
        limit: usize,
        now_ms: i64,
    ) -> Result<Page, LettersError> {
        let storage = self.storage()?;
        blocking(move || {
            let mut page = Page::default();
            let mut reached = after.is_none();
            // The letter behind which to go on may have been the last of its sink, and gone since.
            for pile in piles(&*storage, &filter, after.is_some()) {
                let Some(log) = storage.rows(&pile.name) else {
                    continue;
                };
                let mut from = pile.standing.head;
                if let Some(after) = &after
                    && !reached
                {
                    match numbers(after) {
                        Some((id, seq)) if id == log.id() => {
                            (reached, from) = (true, seq.saturating_add(1));
                        }
                        Some(_) => continue,
                        None => return Err(LettersError::Unknown),
                    }
                }
                let mut last = None;
                while let Some((seq, letter)) =
                    next(&*log, &mut from, pile.standing.tail, &filter, now_ms)?
                {
                    if page.items.len() == limit {
                        page.next = last;
                        return Ok(page);
                    }
                    let id = id_of(&*log, seq);
                    page.items.push(pile.json(&id, letter));
                    last = Some(id);
                }
                if page.items.len() == limit {
                    page.next = page
                        .items
                        .last()
                        .and_then(|item| Some(item["id"].as_str()?.to_owned()));
                    return Ok(page);
                }
            }
            if !reached {
                // An end of the list that is none would look like all there is.
                return Err(LettersError::Unknown);
            }
            Ok(page)
        })
        .await
    }

    /// Puts those that a filter names back into the queues of their sinks, oldest first; `sink` gives the sink of a rule.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read.
    pub async fn retry(
        &self,
        filter: Filter,
        now_ms: i64,
        sink: impl Fn(&str, &str) -> Option<SinkHandle>,
    ) -> Result<Retried, LettersError> {
        let _turn = self.turn.lock().await;
        let storage = self.storage()?;
        let mut retried = Retried::default();
        for pile in found(&storage, &filter).await? {
            let Some((pile, log)) = pile else { continue };
            let mut from = pile.standing.head;
            loop {
                // Those that come while this goes on are not meant: they may be the same again.
                let (chunk, next) = chunk(&log, from, pile.standing.tail, &filter, now_ms).await?;
                from = next;
                if chunk.is_empty() {
                    break;
                }
                let Some(handle) = sink(&pile.rule, &pile.sink) else {
                    let why = "no rule has this sink now";
                    retried.left.push((pile.rule, pile.sink, why.to_owned()));
                    break;
                };
                let all = chunk.len();
                let chunk: Vec<_> = chunk
                    .into_iter()
                    .filter(|(_, row)| !row.is_empty())
                    .collect();
                if chunk.len() < all {
                    let why = "it is of another version of weir and cannot be read";
                    retried
                        .left
                        .push((pile.rule.clone(), pile.sink.clone(), why.to_owned()));
                }
                let (count, outcome) = retry_some(&handle, &log, chunk).await;
                retried.retried += count;
                match outcome {
                    Ok(()) => {}
                    Err(error @ RetryError::NoRoom) => {
                        retried.left.push((pile.rule, pile.sink, error.to_string()));
                        break;
                    }
                    Err(RetryError::Store(error)) => return Err(error.into()),
                }
            }
        }
        Ok(retried)
    }

    /// Drops those that a filter names; gives how many.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read or written.
    pub async fn drop(&self, filter: Filter, now_ms: i64) -> Result<u64, LettersError> {
        let _turn = self.turn.lock().await;
        let storage = self.storage()?;
        let mut dropped = 0;
        for pile in found(&storage, &filter).await? {
            let Some((pile, log)) = pile else { continue };
            let mut from = pile.standing.head;
            loop {
                let (chunk, next) = chunk(&log, from, pile.standing.tail, &filter, now_ms).await?;
                from = next;
                if chunk.is_empty() {
                    break;
                }
                let taken: Vec<_> = chunk.iter().map(|(seq, _)| (log.id(), *seq)).collect();
                dropped += taken.len() as u64;
                exchange(&log, Vec::new(), taken).await?;
            }
        }
        Ok(dropped)
    }

    /// Takes over the files of dead letters that a broker without a store, or an earlier version, has left below `data_dir`.
    /// A file goes when all of it is in the store; one in which something is no letter stays, under another name.
    pub async fn take_files(&self, data_dir: &Path) {
        let Some(storage) = self.storage.clone() else {
            return;
        };
        for file in files_below(&data_dir.join("dead_letters")) {
            match take_file(&storage, &file).await {
                Ok(taken) => {
                    tracing::info!(file = %file.display(), letters = taken, "dead letters of a file are in the store now")
                }
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "dead letters of a file cannot be taken into the store; they stay where they are")
                }
            }
        }
    }
}

impl Pile {
    fn json(&self, id: &str, letter: Option<DeadLetter>) -> Json {
        let mut json = match letter {
            Some(letter) => letter.json(&self.rule, &self.sink),
            None => {
                json!({ "v": 1, "rule": self.rule, "sink": self.sink, "unreadable": "it is of another version" })
            }
        };
        json["id"] = id.into();
        json
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LettersError> + Send + 'static,
) -> Result<T, LettersError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

/// The letters of each sink that a filter may mean; with `empty` those of sinks, too, that have none now.
fn piles(storage: &dyn Storage, filter: &Filter, empty: bool) -> Vec<Pile> {
    let queues = storage.queues().into_iter();
    let piles = queues.filter_map(|(name, standing)| match QueueOf::of(&name)? {
        QueueOf::Letters(rule, sink)
            if (empty || standing.rows > 0) && filter.is_of(rule, sink) =>
        {
            let (rule, sink) = (rule.to_owned(), sink.to_owned());
            Some(Pile {
                rule,
                sink,
                name,
                standing,
            })
        }
        _ => None,
    });
    piles.collect()
}

type Found = Option<(Pile, Arc<dyn RowLog>)>;

async fn found(storage: &Arc<dyn Storage>, filter: &Filter) -> Result<Vec<Found>, LettersError> {
    let wanted = match &filter.id {
        Some(id) => Some(numbers(id).ok_or(LettersError::Unknown)?),
        None => None,
    };
    let (storage, filter) = (Arc::clone(storage), filter.clone());
    blocking(move || {
        let piles = piles(&*storage, &filter, false).into_iter();
        let mut found: Vec<Found> = piles
            .map(|pile| {
                let log = storage.rows(&pile.name)?;
                Some((pile, log))
            })
            .collect();
        if let Some((id, seq)) = wanted {
            found.retain(|found| found.as_ref().is_some_and(|(_, log)| log.id() == id));
            let is_there = |found: &Found| {
                let read = found.as_ref().map(|(_, log)| log.read(seq, 1, 0));
                read.is_some_and(|read| {
                    read.is_ok_and(|rows| rows.first().is_some_and(|row| row.0 == seq))
                })
            };
            if !found.iter().any(is_there) {
                return Err(LettersError::Unknown);
            }
        }
        Ok(found)
    })
    .await
}

/// The next letter that a filter means, from number `from` on, which moves behind it. One that cannot be read is meant by a
/// filter that names no code.
fn next(
    log: &dyn RowLog,
    from: &mut u64,
    to: u64,
    filter: &Filter,
    now_ms: i64,
) -> Result<Option<(u64, Option<DeadLetter>)>, LettersError> {
    let only = filter.id.as_deref().and_then(numbers);
    if let Some((id, seq)) = only
        && (id != log.id() || *from > seq)
    {
        return Ok(None);
    }
    if let Some((_, seq)) = only {
        *from = seq;
    }
    while *from <= to {
        let rows = log.read(*from, 1, 0)?;
        let Some((seq, row)) = rows.first().filter(|(seq, _)| *seq <= to) else {
            return Ok(None);
        };
        *from = seq + 1;
        if only.is_some_and(|(_, only)| *seq != only) {
            return Ok(None);
        }
        let letter = DeadLetter::decode(row).ok();
        let is_meant = letter
            .as_ref()
            .map_or(filter.code.is_none(), |letter| filter.takes(letter, now_ms));
        if is_meant {
            return Ok(Some((*seq, letter)));
        }
    }
    Ok(None)
}

/// Gives letters to their sink in parts for which its queue has room; how many, and why not all of them.
async fn retry_some(
    sink: &SinkHandle,
    log: &Arc<dyn RowLog>,
    mut letters: Vec<(u64, Bytes)>,
) -> (u64, Result<(), RetryError>) {
    let (mut retried, mut most) = (0, letters.len());
    while !letters.is_empty() {
        let count = most.min(letters.len());
        match sink.retry(log, letters[..count].to_vec()).await {
            Ok(()) => {
                letters.drain(..count);
                retried += count as u64;
            }
            Err(RetryError::NoRoom) if count > 1 => most = count / 2,
            Err(error) => return (retried, Err(error)),
        }
    }
    (retried, Ok(()))
}

/// The rows of some letters that a filter means, and where to go on.
async fn chunk(
    log: &Arc<dyn RowLog>,
    from: u64,
    to: u64,
    filter: &Filter,
    now_ms: i64,
) -> Result<(Vec<(u64, Bytes)>, u64), LettersError> {
    let (log, filter) = (Arc::clone(log), filter.clone());
    blocking(move || {
        let (mut from, mut chunk, mut bytes) = (from, Vec::new(), 0);
        while chunk.len() < ROWS && bytes < BYTES {
            match next(&*log, &mut from, to, &filter, now_ms)? {
                None => break,
                Some((seq, letter)) => {
                    let row = letter.map(|letter| letter.row).unwrap_or_default();
                    bytes += row.len();
                    chunk.push((seq, row));
                }
            }
        }
        Ok((chunk, from))
    })
    .await
}

async fn exchange(
    log: &Arc<dyn RowLog>,
    rows: Vec<Bytes>,
    taken: Vec<(u64, u64)>,
) -> std::io::Result<()> {
    let (told, outcome) = tokio::sync::oneshot::channel();
    log.exchange(rows, taken, Box::new(|outcome| drop(told.send(outcome))));
    outcome
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("the store has ended")))
}

fn id_of(log: &dyn RowLog, seq: u64) -> String {
    format!("{:x}-{seq}", log.id())
}

fn numbers(id: &str) -> Option<(u64, u64)> {
    let (log, seq) = id.split_once('-')?;
    Some((u64::from_str_radix(log, 16).ok()?, seq.parse().ok()?))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        // Without the folder there are no files.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if path.extension().is_some_and(|end| end == "ndjson") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// What of a file is next to go into the store.
#[derive(Default)]
struct Lines {
    letters: Vec<(String, Vec<Bytes>)>,
    count: usize,
    bytes: usize,
}

/// Takes one file over; gives how many letters were new. After a crash in the midst of it those that are there are known by
/// the epoch and the number of their rows.
async fn take_file(storage: &Arc<dyn Storage>, file: &Path) -> std::io::Result<u64> {
    let (reading, path) = (Arc::clone(storage), file.to_path_buf());
    let read = move || {
        use std::io::BufRead as _;
        let mut lines = std::io::BufReader::new(std::fs::File::open(&path)?);
        let (mut known, mut taken, mut bad) = (Known::default(), 0, 0_u64);
        let (mut line, mut waiting) = (Vec::new(), Lines::default());
        loop {
            line.clear();
            let ended = lines.read_until(b'\n', &mut line)? == 0;
            if ended || waiting.count >= ROWS || waiting.bytes >= BYTES {
                for (name, rows) in waiting.letters.drain(..) {
                    let log = reading
                        .rows(&name)
                        .ok_or_else(|| std::io::Error::other("the store keeps no rows"))?;
                    let (told, kept) = std::sync::mpsc::channel();
                    log.exchange(
                        rows,
                        Vec::new(),
                        Box::new(move |outcome| drop(told.send(outcome))),
                    );
                    kept.recv().map_err(std::io::Error::other)??;
                }
                waiting = Lines::default();
            }
            if ended {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Some((rule, sink, letter)) = read_line(&line) else {
                bad += 1;
                continue;
            };
            let name = letters_name(&rule, &sink);
            if known.has(&*reading, &name, &letter)? {
                continue;
            }
            taken += 1;
            let row = letter.encode();
            waiting.count += 1;
            waiting.bytes += row.len();
            match waiting.letters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, rows)) => rows.push(row),
                None => waiting.letters.push((name, vec![row])),
            }
        }
        if bad == 0 {
            std::fs::remove_file(&path)?;
        } else {
            let aside = path.with_extension("ndjson.unread");
            tracing::warn!(file = %aside.display(), lines = bad, "lines of a file of dead letters are none; the file is kept");
            std::fs::rename(&path, aside)?;
        }
        Ok(taken)
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(std::io::Error::other)?
}

/// The letters that stood in the store before.
#[derive(Default)]
struct Known(std::collections::HashMap<String, std::collections::HashSet<(u64, u64)>>);

impl Known {
    fn has(
        &mut self,
        storage: &dyn Storage,
        name: &str,
        letter: &DeadLetter,
    ) -> std::io::Result<bool> {
        if !self.0.contains_key(name) {
            let mut known = std::collections::HashSet::new();
            let is_there = storage.queues().iter().any(|(queue, _)| queue == name);
            if let Some(log) = storage.rows(name).filter(|_| is_there) {
                let mut from = 0;
                loop {
                    let rows = log.read(from, ROWS, BYTES)?;
                    let Some((last, _)) = rows.last() else { break };
                    from = last + 1;
                    let letters = rows
                        .iter()
                        .filter_map(|(_, row)| DeadLetter::decode(row).ok());
                    known.extend(letters.map(|letter| (letter.epoch, letter.seq)));
                }
            }
            self.0.insert(name.to_owned(), known);
        }
        Ok(self
            .0
            .get(name)
            .is_some_and(|known| known.contains(&(letter.epoch, letter.seq))))
    }
}
