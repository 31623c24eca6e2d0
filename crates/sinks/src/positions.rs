//! How far the rows of a sink are stored in a database, and whose word that is. Pure: the statements stand beside the
//! sinks.

use sha2::{Digest as _, Sha256};

use crate::halving::WriteError;
use crate::message_ids::MessageIds;
use crate::{Batch, Record, SinkError, codes};

/// One lane for now: all rows of a sink in one order.
pub(crate) const LANE: i32 = 0;

/// What weir's table says of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) epoch: u64,
    pub(crate) fence: u64,
    pub(crate) position: u64,
}

/// Rows that are still to be written, and the position that says that they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'r> {
    pub(crate) records: &'r [Record],
    pub(crate) position: u64,
}

/// How a database tells the rows of a sink apart.
#[derive(Debug)]
pub(crate) struct Terms {
    /// None where rows come at least once, and weir's table is not touched.
    pub(crate) position: Option<Position>,
    /// None where rows carry no id.
    pub(crate) message_ids: Option<MessageIds>,
}

/// A sink's position in a database. How far it is, the [`Fence`](crate::Fence) knows: a sink that is configured anew goes
/// on with it.
#[derive(Debug)]
pub(crate) struct Position {
    /// Names the store in databases that several weirs use.
    pub(crate) store_id: String,
    /// Tells the database from others: what one has confirmed says nothing of another.
    database: u64,
}

impl Position {
    /// `database` names it: the same text for the same one.
    pub(crate) fn new(store_id: String, database: &str) -> Self {
        let digest = Sha256::digest(database);
        let number = digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self {
            store_id,
            database: number.max(1),
        }
    }

    /// What the database says if nothing has happened but what this one did; `None` when that is not known, or when it has
    /// some of the rows.
    pub(crate) fn expected(&self, batch: &Batch<'_>, records: &[Record]) -> Option<u64> {
        let first = records.first()?.seq;
        let confirmed = batch.fence.confirmed(self.database);
        confirmed.filter(|confirmed| *confirmed < first && !batch.fence.is_closed())
    }

    /// To be done before a transaction: the next start has to know who wrote.
    pub(crate) async fn keep(&self, batch: &Batch<'_>) -> Result<(), WriteError> {
        let kept = batch.fence.keep((batch.rule, batch.sink)).await;
        kept.map_err(|error| WriteError::Retry { after: None, error })
    }

    /// A transaction with this position is about to be committed; whether it was may never be known.
    pub(crate) fn commits(&self, batch: &Batch<'_>, position: u64) {
        batch.fence.tries(position);
    }

    /// A transaction with this position was committed. Not to be said earlier: what was rolled back is looked at again.
    pub(crate) fn committed(&self, batch: &Batch<'_>, position: u64) {
        batch.fence.confirm(self.database, position);
    }

    /// Which of some rows are still to be written. `found` is locked: nobody changes it before this transaction ends.
    ///
    /// # Errors
    /// When somebody has to decide: another weir writes the rows (E3213), or the database was put back (E3206).
    pub(crate) fn left<'r>(
        &self,
        batch: &Batch<'_>,
        records: &'r [Record],
        found: Option<Found>,
    ) -> Result<Left<'r>, WriteError> {
        let stored_to = self
            .stored_to(batch, records, found)
            .map_err(|error| WriteError::Retry { after: None, error })?;
        let left = &records[records.partition_point(|record| record.seq <= stored_to)..];
        let position = left.last().map_or(stored_to, |record| record.seq);
        Ok(Left {
            records: left,
            position,
        })
    }

    fn stored_to(
        &self,
        batch: &Batch<'_>,
        records: &[Record],
        found: Option<Found>,
    ) -> Result<u64, SinkError> {
        let Some(found) = found else { return Ok(0) };
        let is_mine = batch.fence.confirmed(self.database).is_some();
        if found.epoch != batch.epoch {
            if is_mine {
                return Err(self.fenced(batch, records));
            }
            // Positions of another life of the queue say nothing of its rows.
            return Ok(0);
        }
        let Some(given_to) = batch.fence.given_under(found.fence) else {
            if is_mine {
                return Err(self.fenced(batch, records));
            }
            // Somebody else has had the numbers of these rows, or may have: none is taken for stored.
            tell_ahead(batch, found.position);
            return Ok(before(records));
        };
        if found.position > given_to {
            // Nobody but a weir without fences moves a position under the fence of another.
            if is_mine {
                return Err(self.fenced(batch, records));
            }
            tell_ahead(batch, found.position);
            return Ok(given_to);
        }
        if let Some(confirmed) = batch.fence.confirmed_ever(self.database)
            && found.position < confirmed
        {
            return Err(self.behind(batch, found.position, confirmed));
        }
        if batch.fence.is_closed() {
            // The next start has to know first that rows are given again.
            batch.fence.reopen();
            let message = "the position was given back to this weir, which goes on";
            return Err(SinkError::new(codes::TRY_LATER, message));
        }
        Ok(found.position)
    }

    /// Another weir has the position.
    fn fenced(&self, batch: &Batch<'_>, records: &[Record]) -> SinkError {
        batch.fence.close();
        let confirmed = batch.fence.confirmed(self.database);
        let confirmed = confirmed.unwrap_or_else(|| before(records));
        let tried = batch.fence.tried();
        let unsure = if tried > confirmed {
            let first = confirmed + 1;
            format!("; rows {first} to {tried} may be stored already, and would be there twice")
        } else {
            String::new()
        };
        let message = format!(
            "another weir, which runs with a copy of this store, writes the rows of this sink; those of this one wait here. \
             Stop one of the two. If this one shall go on, start it anew, or: UPDATE weir_delivery_positions \
             SET epoch = {}, fence = {}, position = {confirmed} WHERE {}{unsure}",
            batch.epoch,
            batch.fence.number(),
            self.key(batch)
        );
        SinkError::new(codes::FENCED, message).configuration()
    }

    /// A position behind what was confirmed: the database was put back to an earlier state.
    fn behind(&self, batch: &Batch<'_>, position: u64, confirmed: u64) -> SinkError {
        let message = format!(
            "rows {} to {confirmed} were confirmed and are not in the database any more; to go on without them: UPDATE \
             weir_delivery_positions SET fence = {}, position = {confirmed} WHERE {}",
            position + 1,
            batch.fence.number(),
            self.key(batch)
        );
        SinkError::new(codes::POSITION_BEHIND, message).configuration()
    }

    /// The condition that names its row.
    fn key(&self, batch: &Batch<'_>) -> String {
        let [store, rule, sink] =
            [&*self.store_id, batch.rule, batch.sink].map(|text| text.replace('\'', "''"));
        format!("store_id = '{store}' AND rule_id = '{rule}' AND sink_id = '{sink}'")
    }
}

/// The row before the first: what is settled is not given again.
fn before(records: &[Record]) -> u64 {
    let first = records.first();
    first.map_or(0, |record| record.seq.saturating_sub(1))
}

/// A position that no row of this queue can have given.
fn tell_ahead(batch: &Batch<'_>, position: u64) {
    tracing::error!(
        code = codes::POSITION_AHEAD,
        rule = batch.rule,
        sink = batch.sink,
        position,
        store = batch.given_to,
        "the database has rows of this sink that the store knows nothing of: data_dir was put back to an earlier state, or \
         another weir has run with a copy of it; the position starts over, no row is skipped"
    );
}

/// Somebody else has made the first entry of a sink at the same moment.
pub(crate) fn met_another() -> WriteError {
    let error = SinkError::new(
        codes::TRY_LATER,
        "another weir has begun with this sink at the same moment",
    );
    WriteError::Retry { after: None, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Fence;
    use weir_rules::value::{Text, Value};

    fn records(numbers: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        numbers
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

    /// What is left of rows 11 to 15, of a start that has given rows up to `tried`.
    fn left(
        confirmed: Option<u64>,
        tried: u64,
        found: impl Fn(&Fence) -> Option<Found>,
    ) -> Result<(Vec<u64>, u64), &'static str> {
        let records = records(11..=15);
        let fence = Fence::fresh();
        let batch = Batch {
            rule: "r",
            sink: "s",
            epoch: 7,
            given_to: tried,
            fence: &fence,
            records: &records,
        };
        let position = Position::new("store".into(), "database");
        fence.tries(tried);
        if let Some(confirmed) = confirmed {
            fence.confirm(position.database, confirmed);
        }
        match position.left(&batch, &records, found(&fence)) {
            Ok(left) => Ok((
                left.records.iter().map(|record| record.seq).collect(),
                left.position,
            )),
            Err(error) => Err(error.into_error().code()),
        }
    }

    fn mine(position: u64) -> impl Fn(&Fence) -> Option<Found> {
        move |fence| {
            Some(Found {
                epoch: 7,
                fence: fence.number(),
                position,
            })
        }
    }

    fn others(epoch: u64, position: u64) -> impl Fn(&Fence) -> Option<Found> {
        move |fence| {
            Some(Found {
                epoch,
                fence: fence.number() ^ 1,
                position,
            })
        }
    }

    #[test]
    fn what_is_stored_is_told_from_what_somebody_else_has_stored() {
        let all = || Ok(((11..=15).collect(), 15));
        assert_eq!(left(None, 0, |_| None), all());
        assert_eq!(left(Some(10), 10, mine(10)), all());
        // An attempt whose answer was lost.
        assert_eq!(left(Some(10), 15, mine(13)), Ok((vec![14, 15], 15)));
        assert_eq!(left(Some(10), 15, mine(15)), Ok((vec![], 15)));
        // A position goes on where it is, never back.
        assert_eq!(left(None, 30, mine(30)), Ok((vec![], 30)));
        // Of another life of the queue.
        assert_eq!(left(None, 0, others(8, 900)), all());
        assert_eq!(left(Some(10), 10, others(8, 900)), Err("E3213"));
        // Before anything was confirmed to this start it takes over, and skips nothing.
        assert_eq!(left(None, 15, others(7, 15)), all());
        // Later it was taken over.
        assert_eq!(left(Some(10), 10, others(7, 10)), Err("E3213"));
        assert_eq!(left(Some(10), 10, mine(12)), Err("E3213"));
        assert_eq!(left(Some(10), 10, mine(6)), Err("E3206"));
    }

    #[test]
    fn rows_that_may_be_stored_though_nobody_confirmed_them_are_named() {
        let records = records(11..=15);
        let fence = Fence::fresh();
        let batch = Batch {
            rule: "r",
            sink: "s",
            epoch: 7,
            given_to: 15,
            fence: &fence,
            records: &records,
        };
        let position = Position::new("store".into(), "database");
        position.committed(&batch, 10);
        position.commits(&batch, 13);
        let error = position.left(&batch, &records, others(7, 10)(&fence));
        let text = error.unwrap_err().into_error().to_string();
        assert!(text.contains("rows 11 to 13 may be stored"), "{text}");
    }
}
