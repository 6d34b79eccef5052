//! Partitions tables by day: creates partitions ahead and drops old ones.

use sqlx::PgPool;

/// Days for which partitions are created ahead. A database can be without a leader for that long.
const AHEAD_DAYS: i32 = 7;
/// Days that ended sagas and ignored deliveries are stored.
const ENDED_KEEP_DAYS: i32 = 30;
/// Days that the answers of idempotency keys and foreign ids are stored.
const ANSWER_KEEP_DAYS: i32 = 2;

/// Creates the partitions of the next days and drops the old ones. Waits at most a second for a table that is
/// in use.
///
/// # Errors
/// Postgres is unreachable, or a table stays locked.
pub async fn roll_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN; SET LOCAL lock_timeout = '1s'").await?;
    sqlx::query("SELECT saga.roll_partitions($1, $2, $3)")
        .bind(AHEAD_DAYS)
        .bind(ENDED_KEEP_DAYS)
        .bind(ANSWER_KEEP_DAYS)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
