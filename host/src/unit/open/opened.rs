//! What the database returned when a unit was opened.

use std::collections::{HashMap, HashSet};

use sqlx::{Column, Row, postgres::PgRow};

use crate::{clock::UnitClock, model::saga::LiveSaga, unit::rows::StoredAnswerRow};

/// The rows of all statements that open a unit.
#[derive(Debug, Default)]
pub struct Opened {
    /// Postgres's clock.
    pub clock: UnitClock,
    /// The claims that are still valid.
    pub claim_ids: HashSet<i32>,
    /// The live sagas of the keys that were asked for.
    pub sagas: Vec<LiveSaga>,
    /// The parked deliveries that still exist.
    pub parked_ids: HashSet<i64>,
    /// The timers that still exist and are due, with the time that they are set to: microseconds since 1970.
    pub timers: HashMap<String, i64>,
    /// The foreign ids that were not recorded before.
    pub new_foreign_ids: HashSet<String>,
    /// By idempotency key.
    pub stored_answers: HashMap<String, StoredAnswerRow>,
}

impl Opened {
    /// Sorts the rows by the statement that returned them, which the name of their first column shows.
    pub(super) fn read(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut opened = Self::default();
        for row in rows {
            match row.column(0).name() {
                "now_us" => opened.clock = UnitClock::started_at(row.try_get("now_us")?),
                "claim_id" => drop(opened.claim_ids.insert(row.try_get("claim_id")?)),
                "type" => opened.sagas.push(live_saga(row)?),
                "parked_id" => opened.add_parked_or_timer(row)?,
                "new_foreign_id" => drop(opened.new_foreign_ids.insert(row.try_get("new_foreign_id")?)),
                _ => opened.add_stored_answer(row)?,
            }
        }
        Ok(opened)
    }

    /// One of the two is NULL.
    fn add_parked_or_timer(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        self.parked_ids.extend(row.try_get::<Option<i64>, _>("parked_id")?);
        let name: Option<String> = row.try_get("timer_name")?;
        let due_at_us: Option<i64> = row.try_get("due_at_us")?;
        self.timers.extend(name.zip(due_at_us));
        Ok(())
    }

    fn add_stored_answer(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let stored = StoredAnswerRow {
            idempotency_key: row.try_get("idempotency_key")?,
            request_hash: row.try_get("request_hash")?,
            response: row.try_get("response")?,
        };
        self.stored_answers.insert(stored.idempotency_key.clone(), stored);
        Ok(())
    }
}

fn live_saga(row: &PgRow) -> Result<LiveSaga, sqlx::Error> {
    Ok(LiveSaga {
        saga_type: row.try_get("type")?,
        key: row.try_get("key")?,
        version: row.try_get("digest")?,
        revision: row.try_get("revision")?,
        state: row.try_get("state")?,
        data: row.try_get("data")?,
        started_at_us: row.try_get("started_at_us")?,
        next_at_us: row.try_get("next_at_us")?,
    })
}
