//! The durable form of [`Persist`] records, for storages that keep bytes.
//!
//! A record is its length, then one byte for its kind, then its fields. Lengths and numbers are unsigned LEB128, texts
//! and payloads stand behind their length, what may be absent is announced by a bit before it. Times are milliseconds
//! since the Unix epoch, as [`Millis`](crate::core::Millis) is, and so mean the same after a restart.
//!
//! A later version may append fields to a record or to the block of a message: a reader skips what it does not know
//! there. A message that one batch owes to several sessions stands in the first of these records alone; the others say
//! which of the batch's messages it is. A kind, a flag or a tag that it does not know is an error, so that nothing is half read. There is no checksum
//! here: bytes that were damaged may still be a record.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::HashMap;
use thiserror::Error;

use super::{Persist, Waiting};
use crate::core::message::Message;
use read::Reader;
pub(crate) use write::write_message;
use write::{write_block, write_record, write_waiting};

/// The kinds of records. The numbers stand in files: each is fixed for ever, and none is given a second time.
mod kind {
    pub(super) const SESSION: u8 = 1;
    pub(super) const DISCONNECTED: u8 = 2;
    pub(super) const SESSION_ENDED: u8 = 3;
    pub(super) const SUBSCRIBED: u8 = 4;
    pub(super) const UNSUBSCRIBED: u8 = 5;
    pub(super) const OWED: u8 = 6;
    pub(super) const IN_FLIGHT: u8 = 7;
    pub(super) const RELEASED: u8 = 8;
    pub(super) const SETTLED: u8 = 9;
    pub(super) const RECEIVED: u8 = 10;
    pub(super) const RECEIVED_DONE: u8 = 11;
    pub(super) const RETAINED: u8 = 12;
    pub(super) const RETAINED_CLEARED: u8 = 13;
    pub(super) const WILL: u8 = 14;
    pub(super) const DELAYED: u8 = 15;
    pub(super) const DELAYED_DONE: u8 = 16;
    pub(super) const BEGAN: u8 = 17;
    pub(super) const BANNED: u8 = 18;
    pub(super) const UNBANNED: u8 = 19;
}

/// What stands before a value of the rule language: fixed for ever as well.
mod tag {
    pub(super) const UNDEFINED: u8 = 0;
    pub(super) const NULL: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const TRUE: u8 = 3;
    pub(super) const INT: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BITS: u8 = 7;
    pub(super) const ARRAY: u8 = 8;
    pub(super) const OBJECT: u8 = 9;
}

/// Arrays and objects in a publisher's attributes that nest deeper are written as undefined, since a reader has to stop
/// somewhere. JSON that nests deeper is refused when it is read, so only a hook can make them.
const MAX_DEPTH: usize = 128;

/// Bytes that are no record, or one of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} was expected at byte {at}")]
pub(crate) struct BadRecord {
    /// Where, in bytes from the beginning of what was to be decoded.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) what: &'static str,
}

/// The messages that are owed by records of one batch: each is written once, however many sessions it is owed to.
#[derive(Default)]
struct Seen(HashMap<usize, u64>);

impl Seen {
    /// Where in the batch a message stands already; `None` when it comes for the first time.
    fn place(&mut self, message: &Arc<Message>) -> Option<u64> {
        let next = self.0.len() as u64;
        // The batch holds the message, so that its place in memory is its own.
        match self.0.entry(Arc::as_ptr(message).addr()) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(new) => {
                new.insert(next);
                None
            }
        }
    }
}

/// Appends one record.
#[cfg(test)]
pub(crate) fn encode(record: &Persist, out: &mut Vec<u8>) {
    write_block(out, |out| write_record(record, &mut Seen::default(), out));
}

/// Takes one record off the front of `bytes`.
///
/// # Errors
/// When there is none, or one that this version does not know; then `bytes` is as before.
#[cfg(test)]
pub(crate) fn decode(bytes: &mut &[u8]) -> Result<Persist, BadRecord> {
    let mut reader = Reader::new(bytes);
    let record = reader.record(&mut Vec::new())?;
    *bytes = reader.rest;
    Ok(record)
}

/// Appends records one after another.
pub(crate) fn encode_batch(records: &[Persist], out: &mut Vec<u8>) {
    let is_owed = |record: &&Persist| matches!(record, Persist::Owed { .. });
    let owed = records.iter().filter(is_owed).count();
    let mut seen = Seen(HashMap::with_capacity_and_hasher(owed, Default::default()));
    let is_record = |record: &&Persist| !matches!(record, Persist::Row { .. });
    for record in records.iter().filter(is_record) {
        write_block(out, |out| write_record(record, &mut seen, out));
    }
}

/// Gives each record of `bytes` to `each`, in order.
///
/// # Errors
/// When something is no record; those before it were given.
pub(crate) fn decode_batch(bytes: &[u8], each: &mut dyn FnMut(Persist)) -> Result<(), BadRecord> {
    let mut reader = Reader::new(bytes);
    let (mut records, mut seen, mut ended) = (Vec::new(), Vec::new(), Ok(()));
    while !reader.rest.is_empty() && ended.is_ok() {
        ended = reader.record(&mut seen).map(|record| records.push(record));
    }
    // Who takes a message sees then whether others hold it too.
    drop(seen);
    records.into_iter().for_each(each);
    ended
}

/// A message with the way of its delivery, by itself.
pub(super) fn write_delivery(waiting: &Waiting, out: &mut Vec<u8>) {
    write_waiting(waiting, None, out);
}

/// What [`write_delivery`] has written.
///
/// # Errors
/// When the bytes are none.
pub(super) fn read_delivery(bytes: &[u8]) -> Result<Waiting, BadRecord> {
    Reader::new(bytes).waiting(&mut Vec::new())
}

/// A message by itself, as [`write_message`] has written it.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn read_message(bytes: &[u8]) -> Result<Message, BadRecord> {
    Reader::new(bytes).message()
}
