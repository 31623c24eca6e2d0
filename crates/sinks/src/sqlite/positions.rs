//! The position of a sink in `weir_delivery_positions`, moved in the transaction that writes the rows: it has the file to
//! itself.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::classify;
use crate::halving::WriteError;
use crate::positions::{Found, LANE, Left, Position};
use crate::{Batch, Record};

/// Moves the position past `records`, and gives those that are not stored yet.
pub(super) async fn advance<'r>(
    connection: &mut SqliteConnection,
    position: &Position,
    batch: &Batch<'_>,
    records: &'r [Record],
) -> Result<Left<'r>, WriteError> {
    let failed = |error: sqlx::Error| classify(&error).into_write_error();
    let found = found(connection, position, batch).await.map_err(failed)?;
    let left = position.left(batch, records, found)?;
    sqlx::query(
        "INSERT INTO weir_delivery_positions (store_id, rule_id, sink_id, lane, epoch, fence, position) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (store_id, rule_id, sink_id, lane) \
         DO UPDATE SET epoch = excluded.epoch, fence = excluded.fence, position = excluded.position, \
           updated_at = CURRENT_TIMESTAMP",
    )
    .bind(&position.store_id)
    .bind(batch.rule)
    .bind(batch.sink)
    .bind(LANE)
    .bind(batch.epoch.cast_signed())
    .bind(batch.fence.number().cast_signed())
    .bind(left.position.cast_signed())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(left)
}

async fn found(
    connection: &mut SqliteConnection,
    position: &Position,
    batch: &Batch<'_>,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT epoch, fence, position FROM weir_delivery_positions \
         WHERE store_id = ?1 AND rule_id = ?2 AND sink_id = ?3 AND lane = ?4",
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
