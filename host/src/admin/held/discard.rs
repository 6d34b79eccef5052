//! Gives up what is held, and records that a person did so.

use super::row::Held;
use crate::store::Database;

/// False when the row was gone meanwhile. What was queued behind it is tried next.
pub(super) async fn discard(database: &Database, held: &Held) -> Result<bool, sqlx::Error> {
    let mut transaction = database.admin.begin().await?;
    let gone = sqlx::query("DELETE FROM saga.parked WHERE id = $1 AND plugin = $2")
        .bind(held.row_id)
        .bind(&held.plugin)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if gone == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO saga.ignored (day, plugin, source, key, reason)
         VALUES ((now() AT TIME ZONE 'UTC')::date, $1, $2, $3, $4)",
    )
    .bind(&held.plugin)
    .bind(held.source())
    .bind(&held.key)
    .bind(format!("discarded: {}", held.reason))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}
