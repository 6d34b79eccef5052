//! Ends a unit: flush, COMMIT, and what follows when COMMIT has no answer.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    flush::flush,
    flush_error::FlushError,
    stages::{Laps, Stage},
    writes::UnitWrites,
};
use crate::{
    claims::lane_lease::LaneLease,
    fault_point,
    model::{fault::Fault, record::encode_as, sqlstate::Statement},
    relay::{
        Relay,
        order::{LaneUnit, Records},
    },
    sabotage::{self, Switch},
};

/// How often the database is asked about a COMMIT without an answer, before the caller must repeat the
/// request.
const POSITION_TRIES_MAX: u32 = 50;
const POSITION_PAUSE: Duration = Duration::from_millis(200);

/// In a failed transaction, COMMIT alone rolls back without an error, but SET is refused.
const COMMIT: &str = "SET LOCAL synchronous_commit = on; COMMIT";
/// On disk within `wal_writer_delay`.
const COMMIT_ASYNC: &str = "SET LOCAL synchronous_commit = off; COMMIT";

/// Flushes `writes` and the records, commits, and passes the records to the relay. `before_relay` runs after
/// the commit and before anyone can see the records.
///
/// # Errors
/// [`Fault::Unknown`] when it is unknown whether the unit was committed. Any other error means that it was
/// not.
pub(super) async fn commit(
    connection: &mut PgConnection,
    lease: &LaneLease,
    laps: &mut Laps<'_>,
    writes: UnitWrites,
    records: Records,
    relay: &Relay,
    before_relay: impl FnOnce(),
) -> Result<(), FlushError> {
    let body = match records.is_empty() {
        true => None,
        false => Some(encode_as(writes.format, &records).map_err(|error| Fault::Guest(error.to_string()))?),
    };
    let statement = if body.is_some() || writes.must_be_durable() { COMMIT } else { COMMIT_ASYNC };
    let seq = match body.is_none() && writes.is_empty() {
        true => None,
        false => flush(connection, lease, &writes, body).await?,
    };
    let unit = (lease.slot, lease.epoch, lease.unit + 1);
    let registered = seq.map(|seq| Registered::new(relay, seq, unit));
    if let Some(seq) = seq.filter(|_| sabotage::on(Switch::SentBeforeCommit)) {
        relay.committed(seq, unit, records.clone());
        tokio::time::sleep(POSITION_PAUSE).await;
    }
    laps.end(Stage::Flush);
    fault_point::reach("before-commit");
    let committed = match sqlx::raw_sql(statement).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_refusal(&error) => Err(Fault::of_statement(Statement::Guest, &error)),
        Err(error) => resolve(lease, relay, &error).await,
    };
    laps.end(Stage::Commit);
    if committed.is_ok() {
        before_relay();
    }
    if let Some(registered) = registered {
        registered.report(records, &committed);
    }
    Ok(committed?)
}

/// An outbox row that the relay expects. When its lane ends here by a panic, it is unknown whether the unit is
/// committed: the relay must not wait for it.
struct Registered<'a> {
    relay: &'a Relay,
    unit: LaneUnit,
    /// None once the relay knows what became of it.
    seq: Option<i64>,
}

impl<'a> Registered<'a> {
    fn new(relay: &'a Relay, seq: i64, unit: LaneUnit) -> Self {
        relay.register(seq, unit);
        Self { relay, unit, seq: Some(seq) }
    }

    /// What became of it.
    fn report(mut self, records: Records, committed: &Result<(), Fault>) {
        let Some(seq) = self.seq.take() else { return };
        match committed {
            Ok(()) => self.relay.committed(seq, self.unit, records),
            Err(Fault::Unknown) => self.relay.commit_unknown(seq, self.unit),
            Err(_) => self.relay.rolled_back(seq, self.unit),
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.seq.inspect(|seq| self.relay.commit_unknown(*seq, self.unit));
    }
}

/// Postgres has answered that it does not commit. A server that shuts down may send 57P.. after it has
/// committed.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(|error| error.code().unwrap_or_default());
    code.is_some_and(|code| !code.starts_with("57P"))
}

/// The lane's position in the database shows whether the unit was committed.
async fn resolve(lease: &LaneLease, relay: &Relay, lost: &sqlx::Error) -> Result<(), Fault> {
    if sabotage::on(Switch::CommitGuessed) {
        return Ok(());
    }
    for _ in 0..POSITION_TRIES_MAX {
        match lease.stored_position(&relay.database().admin).await {
            Ok(Some((epoch, unit))) if epoch == lease.epoch && unit > lease.unit => return Ok(()),
            Ok(Some((epoch, _))) if epoch == lease.epoch => return Err(Fault::Environment(lost.to_string())),
            Ok(_) => return Err(Fault::Unknown),
            Err(_) => tokio::time::sleep(POSITION_PAUSE).await,
        }
    }
    Err(Fault::Unknown)
}
