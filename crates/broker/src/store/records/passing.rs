//! Reading a batch without reading whole what nobody wants of it.

use super::{BadRecord, Persist, Reader, Standing, kind};

/// Records of one message that is owed to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It begins.
    Owed,
    /// It was sent, or PUBREC has come.
    Sent,
    /// It ends.
    Settled,
}

/// Of which session and which message a record is. The bytes name the session: the same ones, the same session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of<'a> {
    pub(crate) step: Step,
    pub(crate) session: &'a [u8],
    pub(crate) number: u64,
}

/// Gives what the records of `bytes` are of, as far as they are of messages that are owed.
///
/// # Errors
/// When something is no record; those before it were given.
pub(crate) fn glance_at_batch(bytes: &[u8], each: &mut dyn FnMut(Of<'_>)) -> Result<(), BadRecord> {
    let mut reader = Reader::new(bytes);
    while !reader.rest.is_empty() {
        if let Some(of) = reader.block("a record")?.of()? {
            each(of);
        }
    }
    Ok(())
}

/// As [`decode_batch`](super::decode_batch), without the records of which `wanted` says no.
///
/// # Errors
/// When something that is read is no record; those before it were given.
pub(crate) fn decode_wanted(
    bytes: &[u8],
    wanted: &mut dyn FnMut(Of<'_>) -> bool,
    each: &mut dyn FnMut(Persist),
) -> Result<(), BadRecord> {
    let mut reader = Reader::new(bytes);
    let mut seen = Vec::new();
    while !reader.rest.is_empty() {
        let record = reader;
        let mut body = reader.block("a record")?;
        match body.of()? {
            Some(of) if !wanted(of) => {
                if of.step == Step::Owed {
                    // Records behind it may point to its message.
                    seen.extend(body.standing_message()?);
                }
            }
            _ => {
                let mut record = record;
                each(record.record(&mut seen)?);
            }
        }
    }
    Ok(())
}

impl<'a> Reader<'a> {
    /// Of what a record is, whose length has been read. What comes next is read from there.
    fn of(&mut self) -> Result<Option<Of<'a>>, BadRecord> {
        let step = match self.u8("a kind of record")? {
            kind::OWED => Step::Owed,
            kind::IN_FLIGHT | kind::RELEASED => Step::Sent,
            kind::SETTLED => Step::Settled,
            _ => return Ok(None),
        };
        let before = self.rest;
        self.bytes("a client identifier")?;
        self.number::<u64>("the number of a session")?;
        let session = &before[..before.len() - self.rest.len()];
        let number = self.place()?;
        Ok(Some(Of {
            step,
            session,
            number,
        }))
    }

    /// The message of a delivery whose number has been read, unless it stands before.
    fn standing_message(&mut self) -> Result<Option<Standing<'a>>, BadRecord> {
        let (_, stands_before) = self.delivery(0)?;
        Ok((!stands_before).then_some(Standing::Unread(*self)))
    }
}
