//! Ends a unit: COMMIT, and what to do when it is not answered.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    flush::Closing,
    stages::{Laps, Stage},
};
use crate::{
    claims::lane_lease::{Chain, standing},
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

/// Writes `closing` and the records, commits, and hands the records to the relay. `before_relay`
/// runs when the unit is committed and nobody has heard of it yet.
///
/// # Errors
/// [`Fault::Unknown`] when it cannot be told whether it was committed; any other fault means
/// that it was not.
pub async fn commit(
    connection: &mut PgConnection,
    chain: &Chain,
    laps: &mut Laps<'_>,
    closing: Closing,
    records: Records,
    relay: &Relay,
    before_relay: impl FnOnce(),
) -> Result<(), Fault> {
    let body = match records.is_empty() {
        true => None,
        false => Some(encode(&records).map_err(|error| Fault::Guest(error.to_string()))?),
    };
    let statement = if body.is_some() || closing.must_last() { COMMIT } else { COMMIT_SOON };
    let seq = match body.is_none() && closing.is_empty() {
        true => None,
        false => closing.write(connection, chain, body).await?,
    };
    seq.inspect(|seq| relay.register(*seq));
    laps.end(Stage::Close);
    fault_point::reach("before-commit");
    let committed = match sqlx::raw_sql(statement).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_refusal(&error) => Err(Fault::of(&error)),
        Err(error) => resolve(chain, relay, &error).await,
    };
    laps.end(Stage::Commit);
    match (&committed, seq) {
        (Ok(()), seq) => {
            before_relay();
            seq.inspect(|seq| relay.committed(*seq, records));
        }
        (Err(Fault::Unknown), Some(seq)) => relay.commit_unknown(seq),
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

/// The chain in the database tells whether the unit is there.
async fn resolve(chain: &Chain, relay: &Relay, lost: &sqlx::Error) -> Result<(), Fault> {
    for _ in 0..STANDING_TRIES {
        match standing(&relay.database().admin, chain).await {
            Ok(Some((epoch, unit))) if epoch == chain.epoch && unit > chain.unit => return Ok(()),
            Ok(Some((epoch, _))) if epoch == chain.epoch => return Err(Fault::Environment(lost.to_string())),
            Ok(_) => return Err(Fault::Unknown),
            Err(_) => tokio::time::sleep(STANDING_PAUSE).await,
        }
    }
    Err(Fault::Unknown)
}
