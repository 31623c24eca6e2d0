//! Finds the rows that a far side refuses, in a batch that it refused as a whole.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Outcome, Record, SinkError};

/// Why a whole write failed.
#[derive(Clone, Debug)]
pub(crate) enum WriteError {
    /// The far side could not; nothing is wrong with the rows.
    Retry {
        after: Option<Duration>,
        error: SinkError,
    },
    /// At least one row is wrong.
    Refused(SinkError),
}

impl WriteError {
    pub(crate) fn into_error(self) -> SinkError {
        match self {
            Self::Retry { error, .. } | Self::Refused(error) => error,
        }
    }
}

/// Something that writes some rows wholly or not at all.
#[async_trait]
pub(crate) trait Write: Send {
    async fn write(&mut self, records: &[Record]) -> Result<(), WriteError>;
}

/// Writes `records` in order, halving what is refused until the rows at fault stand alone.
///
/// A failure that is worth a retry ends it: what was not written yet has to be given again. So does a row that is
/// refused: it has to be parked before a later row moves the far side's position past it, or a crash in between would
/// lose it. A range is only ever written after everything before it was settled, so order is kept.
pub(crate) async fn write_halving(writer: &mut dyn Write, records: &[Record]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(records.len());
    // Ranges still to write, the next one last.
    let whole = 0..records.len();
    let mut ranges = vec![whole];
    while let Some(range) = ranges.pop() {
        match writer.write(&records[range.clone()]).await {
            Ok(()) => outcomes.resize(range.end, Outcome::Delivered),
            Err(WriteError::Retry { after, error }) => {
                outcomes.resize(records.len(), Outcome::Retry { after, error });
                return outcomes;
            }
            Err(WriteError::Refused(error)) if range.len() <= 1 => {
                outcomes.push(Outcome::Rejected { error });
                outcomes.resize(records.len(), Outcome::Untried);
                return outcomes;
            }
            Err(WriteError::Refused(_)) => {
                let middle = range.start + range.len() / 2;
                ranges.push(middle..range.end);
                ranges.push(range.start..middle);
            }
        }
    }
    outcomes
}

/// As [`write_halving`], but rows that are refused already are parked first: `refused` has one entry per record.
pub(crate) async fn write_halving_others(
    writer: &mut dyn Write,
    records: &[Record],
    refused: Vec<Option<SinkError>>,
) -> Vec<Outcome> {
    if refused.iter().all(Option::is_none) {
        return write_halving(writer, records).await;
    }
    let outcomes = refused.into_iter().map(|refused| match refused {
        Some(error) => Outcome::Rejected { error },
        None => Outcome::Untried,
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_rules::value::{Text, Value};

    struct Picky {
        bad: Vec<u64>,
        fail_at: Option<u64>,
        written: Vec<u64>,
        calls: usize,
    }

    #[async_trait]
    impl Write for Picky {
        async fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
            self.calls += 1;
            if records
                .iter()
                .any(|record| Some(record.seq) == self.fail_at)
                && records.len() <= 2
            {
                return Err(WriteError::Retry {
                    after: None,
                    error: SinkError::new("E3401", "gone"),
                });
            }
            if records.iter().any(|record| self.bad.contains(&record.seq)) {
                return Err(WriteError::Refused(SinkError::new("E3201", "bad")));
            }
            self.written.extend(records.iter().map(|record| record.seq));
            Ok(())
        }
    }

    fn records(count: u64) -> Vec<Record> {
        (1..=count)
            .map(|seq| Record {
                seq,
                message_id: u128::from(seq),
                client_id: Text::from_static("c"),
                accepted_at_ms: 0,
                path: Text::default(),
                row: Value::Int(1),
            })
            .collect()
    }

    #[tokio::test]
    async fn the_bad_rows_alone_are_refused_and_order_is_kept() {
        let mut writer = Picky {
            bad: vec![3, 500],
            fail_at: None,
            written: vec![],
            calls: 0,
        };
        let (mut left, mut rejected) = (records(500), Vec::new());
        while !left.is_empty() {
            let outcomes = write_halving(&mut writer, &left).await;
            assert_eq!(outcomes.len(), left.len());
            let both: Vec<_> = std::mem::take(&mut left)
                .into_iter()
                .zip(outcomes)
                .collect();
            for (record, outcome) in both {
                match outcome {
                    Outcome::Delivered => {}
                    Outcome::Rejected { .. } => rejected.push(record.seq),
                    _ => left.push(record),
                }
            }
        }
        assert_eq!(rejected, [3, 500]);
        assert_eq!(
            writer.written,
            (1..=500)
                .filter(|seq| ![3, 500].contains(seq))
                .collect::<Vec<_>>()
        );
        assert!(writer.calls < 50, "{} writes", writer.calls);
    }

    #[tokio::test]
    async fn a_lost_far_side_while_halving_leaves_the_rest_to_retry() {
        let mut writer = Picky {
            bad: vec![1],
            fail_at: Some(5),
            written: vec![],
            calls: 0,
        };
        let outcomes = write_halving(&mut writer, &records(8)).await;
        assert!(matches!(outcomes[0], Outcome::Rejected { .. }));
        assert!(outcomes[1..].iter().all(|o| matches!(o, Outcome::Untried)));
        assert_eq!(outcomes.len(), 8);
        assert!(
            writer.written.is_empty(),
            "nothing goes past a row that is not parked yet"
        );
        let mut writer = Picky {
            bad: vec![6],
            fail_at: Some(5),
            written: vec![],
            calls: 0,
        };
        let outcomes = write_halving(&mut writer, &records(8)).await;
        assert!(
            outcomes[..4]
                .iter()
                .all(|o| matches!(o, Outcome::Delivered))
        );
        assert!(
            outcomes[4..]
                .iter()
                .all(|o| matches!(o, Outcome::Retry { .. }))
        );
    }
}
