//! Begins a unit in one round trip: RESET, BEGIN, the fences, and whatever must be locked or known
//! before the plugin is called.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use sqlx::{AssertSqlSafe, Column, PgConnection, Row, postgres::PgRow};

use crate::{
    claims::lane_lease::LaneLease,
    model::{fault::Fault, saga::LiveSaga},
    store::quote_literal,
};

/// How a source moves on with this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAdvanceRow {
    /// Row of `saga.partition_claim`.
    pub id: i32,
    /// Of the claim.
    pub epoch: i64,
    /// Where it must stand.
    pub expected_offset: i64,
    /// Where it will stand.
    pub next_offset: i64,
    /// The high-water marks afterwards.
    pub dedup_marks: String,
}

/// What a unit needs from the database before its plugin is called.
#[derive(Debug, Default)]
pub struct Opening {
    /// PartitionClaims, sorted by id: all lanes lock in one order.
    pub claims: Vec<ClaimAdvanceRow>,
    /// Keys that the deliveries correlate with, sorted.
    pub saga_keys: Vec<String>,
    /// Held deliveries that are tried again.
    pub held: Vec<i64>,
    /// Timers that fell due.
    pub timers: Vec<String>,
    /// Foreign producers' message ids.
    pub foreign_ids: Vec<String>,
    /// Idempotency keys.
    pub request_keys: Vec<String>,
}

/// An answer kept for an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Of the request that it answered.
    pub hash: Vec<u8>,
    /// As [`super::flush::UnitWrites::keep_answer`] got it.
    pub response: Vec<u8>,
}

/// What the database gave when the unit was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// The sources that are still ours.
    pub claims: HashSet<i32>,
    /// The live sagas asked for.
    pub sagas: Vec<LiveSaga>,
    /// The held deliveries that are still there.
    pub held: HashSet<i64>,
    /// The timers that are still there and due, and since when: microseconds since 1970.
    pub timers: HashMap<String, i64>,
    /// The foreign ids that were not known before.
    pub new_ids: HashSet<String>,
    /// Answers by idempotency key.
    pub answers: HashMap<String, KeptAnswer>,
}

/// Begins the transaction, moves the lane and its claims on, and locks what the unit handles.
///
/// # Errors
/// [`Fault::LaneLost`] when another host has the lane; the environment's otherwise.
pub async fn open(
    connection: &mut PgConnection,
    lease: &LaneLease,
    lease_ms: u32,
    opening: &Opening,
) -> Result<Opened, Fault> {
    let statement = statement(lease, lease_ms, opening);
    let rows = sqlx::raw_sql(AssertSqlSafe(statement))
        .fetch_all(connection)
        .await
        .map_err(|error| Fault::of(&error))?;
    let mut opened = Opened::default();
    for row in &rows {
        take(row, &mut opened).map_err(|error| Fault::of(&error))?;
    }
    Ok(opened)
}

/// The name of its first column tells which statement a row comes from.
fn take(row: &PgRow, opened: &mut Opened) -> Result<(), sqlx::Error> {
    match row.column(0).name() {
        "source" => drop(opened.claims.insert(row.try_get(0)?)),
        "type" => opened.sagas.push(live_saga(row)?),
        "held" => {
            opened.held.extend(row.try_get::<Option<i64>, _>(0)?);
            let timer: (Option<String>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
            opened.timers.extend(timer.0.zip(timer.1));
        }
        "new_id" => drop(opened.new_ids.insert(row.try_get(0)?)),
        _ => {
            let answer = KeptAnswer { hash: row.try_get(1)?, response: row.try_get(2)? };
            opened.answers.insert(row.try_get(0)?, answer);
        }
    }
    Ok(())
}

fn live_saga(row: &PgRow) -> Result<LiveSaga, sqlx::Error> {
    Ok(LiveSaga {
        saga_type: row.try_get(0)?,
        key: row.try_get(1)?,
        version: row.try_get(2)?,
        revision: row.try_get(3)?,
        state: row.try_get(4)?,
        data: row.try_get(5)?,
        began_us: row.try_get(6)?,
        next_at_us: row.try_get(7)?,
    })
}

/// A simple query takes no parameters: numbers are ours, texts are quoted. An array is one literal, which
/// Postgres reads faster than a list of constants. The token is not in it: statement text can be dedup_marks by
/// other sessions of the role.
fn statement(lease: &LaneLease, lease_ms: u32, opening: &Opening) -> String {
    let Opening { claims, saga_keys, held, timers, foreign_ids, request_keys } = opening;
    let mut sql = String::with_capacity(256 + claims.len() * 96 + saga_keys.len() * 40);
    let LaneLease { slot, epoch, unit, .. } = lease;
    let _infallible = write!(sql, "RESET ALL; BEGIN; SELECT saga.open({slot},{epoch},{unit},{lease_ms},");
    numbers(&mut sql, claims.iter().map(|s| i64::from(s.id)));
    sql.push(',');
    numbers(&mut sql, claims.iter().map(|s| s.epoch));
    sql.push(',');
    numbers(&mut sql, claims.iter().map(|s| s.expected_offset));
    sql.push(',');
    numbers(&mut sql, claims.iter().map(|s| s.next_offset));
    sql.push(',');
    texts(&mut sql, claims.iter().map(|s| s.dedup_marks.as_str()));
    sql.push_str(") AS source");
    if !foreign_ids.is_empty() {
        let _infallible = write!(sql, "; SELECT saga.first_seen({slot},");
        texts(&mut sql, foreign_ids.iter().map(String::as_str));
        sql.push_str(") AS new_id");
    }
    if !saga_keys.is_empty() {
        sql.push_str("; SELECT * FROM saga.lock_sagas(NULL,");
        texts(&mut sql, saga_keys.iter().map(String::as_str));
        sql.push(')');
    }
    if !held.is_empty() || !timers.is_empty() {
        let _infallible = write!(sql, "; SELECT * FROM saga.lock_due({slot},");
        numbers(&mut sql, held.iter().copied());
        sql.push(',');
        texts(&mut sql, timers.iter().map(String::as_str));
        sql.push(')');
    }
    if !request_keys.is_empty() {
        let _infallible = write!(sql, "; SELECT * FROM saga.answered({slot},");
        texts(&mut sql, request_keys.iter().map(String::as_str));
        sql.push(')');
    }
    sql
}

fn numbers(sql: &mut String, numbers: impl Iterator<Item = i64>) {
    sql.push_str("'{");
    for (place, number) in numbers.enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let _infallible = write!(sql, "{comma}{number}");
    }
    sql.push_str("}'");
}

fn texts<'text>(sql: &mut String, texts: impl Iterator<Item = &'text str>) {
    let mut array = String::from("{");
    for (place, text) in texts.enumerate() {
        array.push_str(if place > 0 { ",\"" } else { "\"" });
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                array.push('\\');
            }
            array.push(character);
        }
        array.push('"');
    }
    array.push('}');
    sql.push_str(&quote_literal(&array));
}

#[cfg(test)]
mod tests {
    use super::{ClaimAdvanceRow, Opening, statement};
    use crate::claims::lane_lease::LaneLease;

    #[test]
    fn one_trip_opens_a_unit_and_locks_its_sagas() {
        let lease = LaneLease { slot: 3, epoch: 70, unit: 12, token: vec![1, 2] };
        let opening = Opening {
            claims: vec![ClaimAdvanceRow {
                id: 5,
                epoch: 7,
                expected_offset: 100,
                next_offset: 102,
                dedup_marks: "d:1:2:3:4".into(),
            }],
            saga_keys: vec!["it's".into(), r#"a\"b"#.into()],
            ..Opening::default()
        };
        assert_eq!(
            statement(&lease, 5000, &opening),
            "RESET ALL; BEGIN; SELECT saga.open(3,70,12,5000,'{5}','{7}','{100}','{102}',E'{\"d:1:2:3:4\"}') AS source; \
             SELECT * FROM saga.lock_sagas(NULL,E'{\"it''s\",\"a\\\\\\\\\\\\\"b\"}')"
        );
    }
}
