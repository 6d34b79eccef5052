//! Writes everything that the host writes for a unit, in one call of `saga.flush`.

use sqlx::{PgConnection, Row};

use super::{
    flush_error::{self, FlushError},
    writes::UnitWrites,
};
use crate::{claims::lane_lease::LaneLease, fault_point, model::fault::Fault};

/// The call of `saga.flush`. Each array is one list of rows: see [`super::rows`].
macro_rules! flush_call {
    ($added:literal) => {
        concat!(
            "SELECT saga.flush(
    p_slot           => $1,
    p_token          => $2,
    p_at_us          => $3,
    p_saga_starts    => $4,
    p_saga_steps     => $5,
    p_saga_ends      => $6,
    p_timers         => $7,
    p_timers_removed => $8,
    p_parked         => $9,
    p_parked_retries => $10,
    p_parked_removed => $11,
    p_ignored        => $12,
    p_stored_answers => $13,
    p_outbox_body    => $14",
            $added,
            ")"
        )
    };
}

const FLUSH: &str = flush_call!("");
/// As the next build of the tests calls it: a parameter is added.
const FLUSH_OF_NEXT_BUILD: &str = flush_call!(", p_added => 1");

/// Writes all rows, the outbox row last; returns that row's `seq` when there is one. To be called when there
/// is something to write: a read model's unit commits without.
///
/// # Errors
/// A lost race over a saga, or why the unit cannot be written.
pub(super) async fn flush(
    connection: &mut PgConnection,
    lease: &LaneLease,
    writes: &UnitWrites,
    outbox_body: Option<Vec<u8>>,
) -> Result<Option<i64>, FlushError> {
    let call = if fault_point::is_next_build() { FLUSH_OF_NEXT_BUILD } else { FLUSH };
    let flushed = sqlx::query(call)
        .bind(lease.slot)
        .bind(&lease.token)
        .bind(writes.at_us)
        .bind(non_empty(&writes.saga_starts.rows))
        .bind(non_empty(&writes.saga_steps.rows))
        .bind(non_empty(&writes.saga_ends.rows))
        .bind(non_empty(&writes.timers))
        .bind(non_empty(&writes.timers_removed))
        .bind(non_empty(&writes.parked))
        .bind(non_empty(&writes.parked_retries))
        .bind(non_empty(&writes.parked_removed))
        .bind(non_empty(&writes.ignored))
        .bind(non_empty(&writes.stored_answers))
        .bind(outbox_body)
        .fetch_one(connection)
        .await;
    match flushed {
        Ok(row) => row.try_get(0).map_err(|error| FlushError::Fault(Fault::of(&error))),
        Err(error) => Err(flush_error::of(&error, writes)),
    }
}

/// NULL instead of an empty array: PL/pgSQL unpacks every array that it is given, and most are empty.
fn non_empty<T>(rows: &[T]) -> Option<&[T]> {
    (!rows.is_empty()).then_some(rows)
}
