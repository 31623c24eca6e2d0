//! The position of a sink in `weir_delivery_positions`, moved in the transaction that writes the rows.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::failed;
use crate::halving::WriteError;
use crate::positions::{Found, LANE, Left, Position, met_another};
use crate::{Batch, Record};

/// Moves the position past `records`, and gives those that are not stored yet. Its row is locked from here on.
pub(super) async fn advance<'r>(
    connection: &mut PgConnection,
    position: &Position,
    batch: &Batch<'_>,
    records: &'r [Record],
) -> Result<Left<'r>, WriteError> {
    let last = records.last().map_or(0, |record| record.seq);
    if let Some(expected) = position.expected(batch, records) {
        let moved = moved(connection, position, batch, expected, last);
        if moved.await.map_err(failed)? {
            return Ok(Left {
                records,
                position: last,
            });
        }
    }
    let found = locked(connection, position, batch).await.map_err(failed)?;
    let left = position.left(batch, records, found)?;
    let put = put(connection, position, batch, found.is_some(), left.position);
    if put.await.map_err(failed)? {
        Ok(left)
    } else {
        Err(met_another())
    }
}

/// Moves it from where it was left, if nobody else has it.
async fn moved(
    connection: &mut PgConnection,
    position: &Position,
    batch: &Batch<'_>,
    from: u64,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE weir_delivery_positions SET position = $7, updated_at = now() \
         WHERE store_id = $1 AND rule_id = $2 AND sink_id = $3 AND lane = $4 AND epoch = $5 AND fence = $6 \
           AND position = $8",
    )
    .bind(&position.store_id)
    .bind(batch.rule)
    .bind(batch.sink)
    .bind(LANE)
    .bind(batch.epoch.cast_signed())
    .bind(batch.fence.number().cast_signed())
    .bind(to.cast_signed())
    .bind(from.cast_signed())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn locked(
    connection: &mut PgConnection,
    position: &Position,
    batch: &Batch<'_>,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT epoch, fence, position FROM weir_delivery_positions \
         WHERE store_id = $1 AND rule_id = $2 AND sink_id = $3 AND lane = $4 FOR UPDATE",
    )
    .bind(&position.store_id)
    .bind(batch.rule)
    .bind(batch.sink)
    .bind(LANE)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let number = |place: usize| row.try_get::<i64, _>(place).map(i64::cast_unsigned);
    Ok(Some(Found {
        epoch: number(0)?,
        fence: number(1)?,
        position: number(2)?,
    }))
}

/// Sets it, and who has it; false when somebody else has just made the row.
async fn put(
    connection: &mut PgConnection,
    position: &Position,
    batch: &Batch<'_>,
    is_there: bool,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let statement = if is_there {
        "UPDATE weir_delivery_positions SET epoch = $5, fence = $6, position = $7, updated_at = now() \
         WHERE store_id = $1 AND rule_id = $2 AND sink_id = $3 AND lane = $4"
    } else {
        "INSERT INTO weir_delivery_positions (store_id, rule_id, sink_id, lane, epoch, fence, position) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
    };
    let done = sqlx::query(statement)
        .bind(&position.store_id)
        .bind(batch.rule)
        .bind(batch.sink)
        .bind(LANE)
        .bind(batch.epoch.cast_signed())
        .bind(batch.fence.number().cast_signed())
        .bind(to.cast_signed())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}
