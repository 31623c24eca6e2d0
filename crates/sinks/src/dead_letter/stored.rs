//! A dead letter as it stands in a store.

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use super::file::add_record;
use crate::Record;
use crate::record::{self, BadRecord};

/// The format that is written.
const VERSION: u8 = 1;

/// A row that was parked, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// When it was parked: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How often the row was tried.
    pub attempts: u32,
    /// The epoch of the queue that it came from.
    pub epoch: u64,
    /// Its number there.
    pub seq: u64,
    /// The code of the failure, e.g. `E3201`.
    pub code: String,
    /// The failure in words; it may quote the row.
    pub reason: String,
    /// The row, as [`record::encode`](crate::record::encode) has written it.
    pub row: Bytes,
}

/// Bytes that are no dead letter, or one of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is no dead letter that this version of weir knows")]
pub struct BadLetter;

impl DeadLetter {
    /// As it is kept.
    pub fn encode(&self) -> Bytes {
        // A code is a few letters.
        let code = &self.code.as_bytes()[..self.code.len().min(255)];
        let mut out = Vec::with_capacity(34 + code.len() + self.reason.len() + self.row.len());
        out.push(VERSION);
        out.extend_from_slice(&self.at_ms.to_be_bytes());
        out.extend_from_slice(&self.attempts.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.push(u8::try_from(code.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(code);
        let reason = u32::try_from(self.reason.len()).unwrap_or(0);
        out.extend_from_slice(&reason.to_be_bytes());
        out.extend_from_slice(&self.reason.as_bytes()[..reason as usize]);
        out.extend_from_slice(&self.row);
        out.into()
    }

    /// What [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: &Bytes) -> Result<Self, BadLetter> {
        let mut rest = bytes.clone();
        let bad = |_| BadLetter;
        if rest.try_get_u8().map_err(bad)? != VERSION {
            return Err(BadLetter);
        }
        let at_ms = rest.try_get_i64().map_err(bad)?;
        let attempts = rest.try_get_u32().map_err(bad)?;
        let epoch = rest.try_get_u64().map_err(bad)?;
        let seq = rest.try_get_u64().map_err(bad)?;
        let length = usize::from(rest.try_get_u8().map_err(bad)?);
        let code = words(&mut rest, length)?;
        let length = rest.try_get_u32().map_err(bad)? as usize;
        let reason = words(&mut rest, length)?;
        let row = rest;
        Ok(Self {
            at_ms,
            attempts,
            epoch,
            seq,
            code,
            reason,
            row,
        })
    }

    /// The row with what is known of it.
    ///
    /// # Errors
    /// When it was written by a later version.
    pub fn record(&self) -> Result<Record, BadRecord> {
        record::decode(self.seq, &self.row)
    }

    /// As tools show it: one JSON object.
    pub fn json(&self, rule: &str, sink: &str) -> serde_json::Value {
        let mut json = serde_json::json!({
            "v": 1,
            "at_ms": self.at_ms,
            "rule": rule,
            "sink": sink,
            "code": self.code,
            "reason": self.reason,
            "attempts": self.attempts,
            "epoch": self.epoch,
            "seq": self.seq,
        });
        match self.record() {
            Ok(record) => add_record(&mut json, &record),
            Err(error) => json["unreadable"] = error.to_string().into(),
        }
        json
    }
}

fn words(rest: &mut Bytes, length: usize) -> Result<String, BadLetter> {
    if rest.len() < length {
        return Err(BadLetter);
    }
    let bytes = rest.split_to(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_rules::value::{Text, Value};

    fn letter(reason: String, seq: u64, number: i64) -> DeadLetter {
        DeadLetter {
            at_ms: 12,
            attempts: 3,
            epoch: 7,
            seq,
            code: "E3201".into(),
            reason,
            row: record::encode(9, &Text::from_static("c"), 5, &Value::Int(number)),
        }
    }

    proptest! {
        #[test]
        fn a_letter_comes_back_as_it_was(reason in ".{0,40}", seq: u64, number: i64) {
            let letter = letter(reason, seq, number);
            let back = DeadLetter::decode(&letter.encode()).unwrap();
            prop_assert_eq!(back.record().unwrap().accepted_at_ms, 5);
            prop_assert_eq!(back, letter);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            bytes.insert(0, VERSION);
            if let Ok(letter) = DeadLetter::decode(&bytes.into()) {
                let _ = letter.json("rule", "sink");
            }
        }
    }

    #[test]
    fn a_letter_that_is_cut_in_its_head_is_refused() {
        let whole = letter("why".into(), 1, 2).encode();
        for end in 0..30 {
            assert_eq!(DeadLetter::decode(&whole.slice(..end)), Err(BadLetter));
        }
    }
}
