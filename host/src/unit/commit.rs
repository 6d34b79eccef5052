//! Ends a unit: COMMIT, and what to do when it is not answered.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    flush::UnitWrites,
    stages::{Laps, Stage},
};
use crate::{
    claims::lane_lease::LaneLease,
    fault_point,
    model::{fault::Fault, record::encode},
    relay::{Relay, order::Records},
};

/// How long a COMMIT without an answer is asked after, before the caller is told to repeat.
const STANDING_TRIES: u32 = 50;
const STANDING_PAUSE: Duration = Duration::from_millis(200);

/// SET is refused in a transaction that has failed, of which COMMIT alone would make a silent rollback.
const COMMIT: &str = "SET LOCAL synchronous_commit = on; COMMIT";
/// On disk within `wal_writer_delay`.
const COMMIT_SOON: &str = "SET LOCAL synchronous_commit = off; COMMIT";

/// Writes `writes` and the records, commits, and hands the records to the relay. `before_relay`
/// runs when the unit is committed and nobody has heard of it yet.
///
/// # Errors
/// [`Fault::Unknown`] when it cannot be told whether it was committed; any other fault means
/// that it was not.
pub async fn commit(
    connection: &mut PgConnection,
    lease: &LaneLease,
    laps: &mut Laps<'_>,
    writes: UnitWrites,
    records: Records,
    relay: &Relay,
    before_relay: impl FnOnce(),
) -> Result<(), Fault> {
    let body = match records.is_empty() {
        true => None,
        false => Some(encode(&records).map_err(|error| Fault::Guest(error.to_string()))?),
    };
    let statement = if body.is_some() || writes.must_last() { COMMIT } else { COMMIT_SOON };
    let seq = match body.is_none() && writes.is_empty() {
        true => None,
        false => writes.write(connection, lease, body).await?,
    };
    seq.inspect(|seq| relay.register(*seq));
    laps.end(Stage::Close);
    fault_point::reach("before-commit");
    let committed = match sqlx::raw_sql(statement).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_refusal(&error) => Err(Fault::of(&error)),
        Err(error) => resolve(lease, relay, &error).await,
    };
    laps.end(Stage::Commit);
    match (&committed, seq) {
        (Ok(()), seq) => {
            before_relay();
            seq.inspect(|seq| relay.committed(*seq, records));
        }
        (Err(Fault::Unknown), Some(seq)) => relay.unknown(seq),
        (Err(_), Some(seq)) => relay.rolled_back(seq),
        (Err(_), None) => {}
    }
    committed
}

/// Postgres has answered that it does not commit. A server that is being shut down may say so of itself after
/// the commit.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(|error| error.code().unwrap_or_default());
    code.is_some_and(|code| !code.starts_with("57P"))
}

/// The lease in the database tells whether the unit is there.
async fn resolve(lease: &LaneLease, relay: &Relay, lost: &sqlx::Error) -> Result<(), Fault> {
    for _ in 0..STANDING_TRIES {
        match lease.stored_position(&relay.database().admin).await {
            Ok(Some((epoch, unit))) if epoch == lease.epoch && unit > lease.unit => return Ok(()),
            Ok(Some((epoch, _))) if epoch == lease.epoch => return Err(Fault::Environment(lost.to_string())),
            Ok(_) => return Err(Fault::Unknown),
            Err(_) => tokio::time::sleep(STANDING_PAUSE).await,
        }
    }
    Err(Fault::Unknown)
}
