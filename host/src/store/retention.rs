//! Tables by day: made ahead, dropped when they are old.

use sqlx::PgPool;

/// Days made ahead: that long a database may be without a leader.
const DAYS_AHEAD: i32 = 7;
/// Ended sagas and ignored deliveries are kept this many days.
const KEEP_DONE_DAYS: i32 = 30;
/// Answers of idempotency keys, and foreign ids.
const KEEP_SHORT_DAYS: i32 = 2;

/// Makes the partitions of the next days and drops the old ones. Waits a second at the most for a
/// table that is in use.
///
/// # Errors
/// What Postgres reports.
pub async fn roll_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN; SET LOCAL lock_timeout = '1s'").await?;
    sqlx::query("SELECT saga.roll_partitions($1, $2, $3)")
        .bind(DAYS_AHEAD)
        .bind(KEEP_DONE_DAYS)
        .bind(KEEP_SHORT_DAYS)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
