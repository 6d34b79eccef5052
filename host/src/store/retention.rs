//! Partitions tables by day: creates partitions ahead and drops old ones.

use sqlx::PgPool;

/// Days for which partitions are created ahead. A database can be without a leader for that long.
const AHEAD_DAYS: i32 = 7;
/// Days that ended sagas and ignored deliveries are stored.
const ENDED_KEEP_DAYS: i32 = 30;
/// Days that the answers of idempotency keys and foreign ids are stored.
const ANSWER_KEEP_DAYS: i32 = 2;
/// Waits at most a second for a table that is in use.
const BEGIN_CREATE: &str = "BEGIN; SET LOCAL lock_timeout = '1s'";
/// Dropping waits for every reader, and all who use the table wait behind it: units, too. A dump can take hours,
/// and this is tried again all the time.
const BEGIN_DROP: &str = "BEGIN; SET LOCAL lock_timeout = '100ms'";

/// Creates the partitions of the next days and drops the old ones, apart from each other: dropping waits for
/// readers, for example a dump, creating does not.
///
/// # Errors
/// Postgres is unreachable, or a table stays locked. Some partitions may have been created or dropped.
pub async fn roll_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with(BEGIN_CREATE).await?;
    sqlx::query("SELECT saga.create_partitions($1)").bind(AHEAD_DAYS).execute(&mut *transaction).await?;
    transaction.commit().await?;
    let mut transaction = pool.begin_with(BEGIN_DROP).await?;
    sqlx::query("SELECT saga.drop_partitions($1, $2)")
        .bind(ENDED_KEEP_DAYS)
        .bind(ANSWER_KEEP_DAYS)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Whether all tables have the partitions of today and tomorrow, so that units can be committed and there is
/// time to create the others.
///
/// # Errors
/// Postgres is unreachable.
pub(super) async fn has_partitions(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT bool_and(to_regclass(format('saga.%s_%s', t, to_char(d, 'YYYYMMDD'))) IS NOT NULL)
           FROM unnest(ARRAY['saga_done', 'ignored', 'stored_answer', 'foreign_inbox']) t
          CROSS JOIN generate_series((now() AT TIME ZONE 'UTC')::date,
                                     (now() AT TIME ZONE 'UTC')::date + 1, '1 day') d",
    )
    .fetch_one(pool)
    .await
}
