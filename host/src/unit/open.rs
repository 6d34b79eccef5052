//! Opens a unit in one round trip: begins its transaction, advances its fences, and locks or reads what the
//! plugin's call needs.

mod opened;

use sqlx::{AssertSqlSafe, PgConnection};

pub use self::opened::Opened;
use super::sql_text::SqlText;
use crate::{
    claims::lane_lease::LaneLease,
    model::{fault::Fault, sqlstate::Statement},
};

/// Comes last, when the unit has its locks.
const READ_CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp())*1000000)::bigint AS now_us";

/// How a unit advances one partition: a row's worth of the arrays of `saga.open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAdvanceRow {
    /// Row of `saga.partition_claim`.
    pub id: i32,
    /// Of the claim.
    pub epoch: i64,
    /// The next offset before the unit.
    pub expected_offset: i64,
    /// The next offset after it.
    pub next_offset: i64,
    /// The high-water marks after it.
    pub dedup_marks: String,
}

/// What a unit needs from the database before its plugin is called.
#[derive(Debug, Default)]
pub struct Opening {
    /// Sorted by id: all lanes lock in one order.
    pub claim_advances: Vec<ClaimAdvanceRow>,
    /// Keys that the deliveries correlate with, sorted.
    pub saga_keys: Vec<String>,
    /// Parked deliveries that are tried again.
    pub parked_ids: Vec<i64>,
    /// Due timers.
    pub timer_names: Vec<String>,
    /// Foreign producers' message ids.
    pub foreign_ids: Vec<String>,
    /// Of HTTP requests.
    pub idempotency_keys: Vec<String>,
    /// How long the guest's statements wait for a locked row, where it is not as long as usual.
    pub lock_timeout_ms: Option<u32>,
}

impl Opening {
    /// Whether it locks rows that only single keys need.
    fn locks_keys(&self) -> bool {
        !(self.saga_keys.is_empty() && self.parked_ids.is_empty() && self.timer_names.is_empty())
    }
}

/// Begins the transaction, advances the lane and its partitions, and locks what the unit handles.
///
/// # Errors
/// [`Fault::LaneLost`] when another host has acquired the lane's lease; else what [`Fault::of_statement`] says.
pub async fn open(
    connection: &mut PgConnection,
    lease: &LaneLease,
    lease_ms: u32,
    opening: &Opening,
) -> Result<Opened, Fault> {
    let rows = sqlx::raw_sql(AssertSqlSafe(script(lease, lease_ms, opening)))
        .fetch_all(connection)
        .await
        .map_err(|error| {
            let by = if opening.locks_keys() { Statement::HostLocks } else { Statement::Host };
            Fault::of_statement(by, &error)
        })?;
    Opened::read(&rows).map_err(|error| Fault::of(&error))
}

/// The lease's token is not in it: other sessions of the role can see the text of a statement.
fn script(lease: &LaneLease, lease_ms: u32, opening: &Opening) -> String {
    let Opening { claim_advances, saga_keys, .. } = opening;
    let mut sql = SqlText::with_capacity(384 + claim_advances.len() * 96 + saga_keys.len() * 40);
    sql.statement("RESET ALL");
    sql.statement("BEGIN");
    open_unit(&mut sql, lease, lease_ms, claim_advances);
    if !opening.foreign_ids.is_empty() {
        record_foreign_ids(&mut sql, lease.slot, &opening.foreign_ids);
    }
    // Of the rows of single keys, and those that the guest's statements lock.
    if let Some(ms) = opening.lock_timeout_ms {
        sql.statement(&format!("SET LOCAL lock_timeout = {ms}"));
    }
    if !saga_keys.is_empty() {
        lock_sagas(&mut sql, saga_keys);
    }
    if !opening.parked_ids.is_empty() || !opening.timer_names.is_empty() {
        lock_parked_and_timers(&mut sql, lease.slot, opening);
    }
    if !opening.idempotency_keys.is_empty() {
        stored_answers(&mut sql, lease.slot, &opening.idempotency_keys);
    }
    sql.statement(READ_CLOCK);
    sql.into_string()
}

fn open_unit(sql: &mut SqlText, lease: &LaneLease, lease_ms: u32, advances: &[ClaimAdvanceRow]) {
    sql.call("SELECT claim_id FROM saga.open", |call| {
        call.number("p_slot", lease.slot);
        call.number("p_epoch", lease.epoch);
        call.number("p_unit", lease.unit);
        call.number("p_lease_ms", lease_ms);
        call.numbers("p_claim_ids", advances.iter().map(|row| row.id.into()));
        call.numbers("p_claim_epochs", advances.iter().map(|row| row.epoch));
        call.numbers("p_expected_offsets", advances.iter().map(|row| row.expected_offset));
        call.numbers("p_next_offsets", advances.iter().map(|row| row.next_offset));
        call.texts("p_dedup_marks", advances.iter().map(|row| row.dedup_marks.as_str()));
    });
}

fn record_foreign_ids(sql: &mut SqlText, slot: i32, ids: &[String]) {
    sql.call("SELECT * FROM saga.record_foreign_ids", |call| {
        call.number("p_slot", slot);
        call.texts("p_ids", ids.iter().map(String::as_str));
    });
}

/// Of all types: whatever types the versions of the plugin know.
fn lock_sagas(sql: &mut SqlText, keys: &[String]) {
    sql.call("SELECT * FROM saga.lock_sagas", |call| {
        call.null("p_type");
        call.texts("p_keys", keys.iter().map(String::as_str));
    });
}

fn lock_parked_and_timers(sql: &mut SqlText, slot: i32, opening: &Opening) {
    sql.call("SELECT * FROM saga.lock_parked_and_timers", |call| {
        call.number("p_slot", slot);
        call.numbers("p_parked_ids", opening.parked_ids.iter().copied());
        call.texts("p_timer_names", opening.timer_names.iter().map(String::as_str));
    });
}

fn stored_answers(sql: &mut SqlText, slot: i32, keys: &[String]) {
    sql.call("SELECT * FROM saga.stored_answers", |call| {
        call.number("p_slot", slot);
        call.texts("p_idempotency_keys", keys.iter().map(String::as_str));
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Instant;

    use super::{ClaimAdvanceRow, Opening, READ_CLOCK, script};
    use crate::{claims::lane_lease::LaneLease, model::identity::Identity};

    #[test]
    fn one_round_trip_opens_a_unit_and_locks_its_sagas() {
        let identity = Identity::parse("6921f3c000c0ffee").unwrap();
        let (token, acquired_at) = (b"secret".to_vec(), Instant::now());
        let lease = LaneLease { slot: 3, epoch: 70, unit: 12, token, identity, acquired_at };
        let advance = ClaimAdvanceRow {
            id: 5,
            epoch: 7,
            expected_offset: 100,
            next_offset: 102,
            dedup_marks: "d:1:2:3:4".into(),
        };
        let opening = Opening {
            claim_advances: vec![advance],
            saga_keys: vec!["it's".into(), r#"a\"b"#.into()],
            ..Opening::default()
        };
        let statements = [
            "RESET ALL; BEGIN",
            "SELECT claim_id FROM saga.open(p_slot=>3,p_epoch=>70,p_unit=>12,p_lease_ms=>5000,\
             p_claim_ids=>'{5}',p_claim_epochs=>'{7}',p_expected_offsets=>'{100}',p_next_offsets=>'{102}',\
             p_dedup_marks=>E'{\"d:1:2:3:4\"}')",
            r#"SELECT * FROM saga.lock_sagas(p_type=>NULL,p_keys=>E'{"it''s","a\\\\\\"b"}')"#,
            READ_CLOCK,
        ];
        assert_eq!(script(&lease, 5000, &opening), statements.join("; "));
    }
}
