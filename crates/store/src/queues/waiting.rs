//! What is known of the rows of one queue.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Place, SPOT_BYTES, WINDOW_BYTES};
use crate::body::Read;

/// Rows with consecutive numbers, near to one another in one file.
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) sizes: Vec<u32>,
}

impl Spot {
    pub(super) fn len(&self) -> u64 {
        self.sizes.len() as u64
    }

    /// The sizes of the rows behind `settled`, when the first of all has the number `first`.
    pub(super) fn behind(&self, first: u64, settled: u64) -> &[u32] {
        let gone = (settled + 1).saturating_sub(first).min(self.len());
        &self.sizes[usize::try_from(gone).unwrap_or(self.sizes.len())..]
    }
}

pub(super) fn total(sizes: &[u32]) -> u64 {
    sizes.iter().map(|size| u64::from(*size)).sum()
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) next: u64,
    pub(super) settled: u64,
    pub(super) skips: Vec<(u64, u64)>,
    /// By the number of the first row.
    pub(super) spots: BTreeMap<u64, Spot>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) window: VecDeque<Bytes>,
    pub(super) window_first: u64,
    pub(super) window_bytes: usize,
    /// What was read from a file last, in order.
    pub(super) loaded: Read,
    /// It is among those whose settling is yet to be written.
    pub(super) unwritten: bool,
}

impl Inner {
    /// Takes note of rows in a file; of those that are known or settled already there is none.
    pub(super) fn add(&mut self, first: u64, sizes: &[u32], place: Place) {
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
    pub(super) fn settle(&mut self, up_to: u64) -> bool {
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

    pub(super) fn keep(&mut self, seq: u64, row: Bytes) {
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
    pub(super) fn skips_before(&self, seq: u64) -> usize {
        self.skips.partition_point(|(_, to)| *to < seq)
    }

    /// Where the skip ends that this number is in.
    pub(super) fn skipped(&self, seq: u64) -> Option<u64> {
        let (from, to) = self.skips.get(self.skips_before(seq))?;
        (*from <= seq).then_some(*to)
    }

    /// These numbers are those of no rows. Skips stay in order and apart.
    pub(super) fn skip(&mut self, mut from: u64, mut to: u64) {
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
    pub(super) fn take(&mut self, from: u64, to: u64) {
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
    pub(super) fn gaps(&self) -> Vec<(u64, u64)> {
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
    pub(super) fn forget(&mut self, first: u64) {
        if let Some(spot) = self.spots.remove(&first) {
            let left = spot.behind(first, self.settled);
            self.rows -= left.len() as u64;
            self.bytes -= total(left);
        }
    }

    /// Gives rows that are in memory, from `seq` on, as long as there is room. What has to be read from a file else.
    pub(super) fn give(
        &self,
        seq: &mut u64,
        room: &mut Room,
        out: &mut Read,
    ) -> Option<(u64, u64, Place)> {
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

    /// Of `count` rows from `first` on only these are there.
    pub(super) fn lose(&mut self, first: u64, count: u64, found: &Read, place: Place) {
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

pub(super) struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn new(rows: usize, bytes: usize) -> Self {
        Self {
            rows: rows.max(1),
            bytes,
        }
    }

    pub(super) fn is_left(&self, is_first: bool) -> bool {
        self.rows > 0 && (is_first || self.bytes > 0)
    }

    pub(super) fn take(&mut self, bytes: usize, is_first: bool) -> bool {
        if self.rows == 0 || (!is_first && bytes > self.bytes) {
            return false;
        }
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}
