//! What the host itself writes for a unit: one call of `saga.close`, its arrays column by column. A
//! unit of which nothing is to be written, as a read model's are, closes without it.

use sqlx::{PgConnection, Row};

use crate::{
    claims::lane_lease::LaneLease,
    model::fault::{Culprit, Fault, ParkedUntil},
};

/// Of a reason that is stored for a person to read.
const REASON_CHARS_MAX: usize = 2_000;

/// Everything that `saga.close` writes, as columns. `push` functions keep their lengths equal.
#[derive(Debug, Default)]
#[allow(clippy::type_complexity, reason = "columns, in the order of the function's parameters")]
pub struct UnitWrites {
    /// The unit's time, microseconds since 1970.
    pub at_us: i64,
    answers: bool,
    b: (Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>),
    begun_by: Vec<usize>,
    u: (
        Vec<String>,
        Vec<String>,
        Vec<i64>,
        Vec<i64>,
        Vec<String>,
        Vec<Option<String>>,
        Vec<i64>,
        Vec<bool>,
        Vec<String>,
        Vec<Option<String>>,
    ),
    d: (
        Vec<String>,
        Vec<String>,
        Vec<i64>,
        Vec<i64>,
        Vec<String>,
        Vec<Option<String>>,
        Vec<String>,
        Vec<Option<String>>,
        Vec<String>,
    ),
    t: (Vec<String>, Vec<i64>, Vec<Option<String>>, Vec<Vec<u8>>),
    /// Timers that are gone: cancelled, or fired.
    pub timers_gone: Vec<String>,
    h: (
        Vec<String>,
        Vec<i32>,
        Vec<i64>,
        Vec<Option<String>>,
        Vec<Vec<u8>>,
        Vec<String>,
        Vec<i32>,
        Vec<Option<i64>>,
    ),
    r: (Vec<i64>, Vec<String>, Vec<i32>, Vec<Option<i64>>),
    /// Held deliveries that are done with.
    pub held_gone: Vec<i64>,
    i: (Vec<String>, Vec<Option<String>>, Vec<String>),
    q: (Vec<String>, Vec<Vec<u8>>, Vec<Vec<u8>>),
}

/// A saga that begins with this unit.
#[derive(Debug)]
pub struct Begin {
    /// Who is to blame when its key exists: place in the call.
    pub cause: usize,
    /// Type, key, digest of the version, state, JSON data.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Digest of the version that it stays with.
    pub version: String,
    /// State.
    pub state: String,
    /// JSON.
    pub data: String,
    /// Deadline, microseconds since 1970.
    pub next_at_us: i64,
    /// Lines of its log.
    pub log: String,
}

/// A saga that this unit moves on.
#[derive(Debug)]
pub struct Step {
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Revision before the unit.
    pub before: i64,
    /// Revision after it.
    pub after: i64,
    /// State after it.
    pub state: String,
    /// JSON after it; none leaves it.
    pub data: Option<String>,
    /// Lines added to its log.
    pub log: String,
    /// Digest of the version that it stays with from now on; none leaves it.
    pub version: Option<String>,
    /// Where it stands now.
    pub then: Standing,
}

/// Where a saga stands after a step.
#[derive(Debug)]
pub enum Standing {
    /// Waiting until this deadline, microseconds since 1970; overdue when one has passed unanswered.
    Until(i64, bool),
    /// Ended: `completed`, `compensated` or `failed`, with the answer for a caller that waits.
    Ended(&'static str, Option<String>),
}

/// A delivery that is set aside for later.
#[derive(Debug)]
pub struct Held {
    /// Topic, or `timer/…`.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub position: i64,
    /// What queues behind it.
    pub key: Option<String>,
    /// The encoded delivery.
    pub body: Vec<u8>,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When to try again; none: when a person says so.
    pub retry_ms: Option<i64>,
}

impl UnitWrites {
    /// Of a unit for whose commit HTTP callers wait.
    #[must_use]
    pub fn of_answers() -> Self {
        Self { answers: true, ..Self::default() }
    }

    /// Whether the commit must be on disk before anyone hears of it. A read model's unit may be lost
    /// with the machine: its position is lost with it, so it is done again.
    #[must_use]
    pub fn must_last(&self) -> bool {
        self.answers || !self.is_empty()
    }

    /// Nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { at_us: _, answers: _, b, begun_by: _, u, d, t, timers_gone, h, r, held_gone, i, q } = self;
        let of_sagas = b.1.is_empty() && u.1.is_empty() && d.1.is_empty();
        let of_timers = t.0.is_empty() && timers_gone.is_empty();
        let of_deliveries = h.0.is_empty() && r.0.is_empty() && held_gone.is_empty() && i.0.is_empty();
        of_sagas && of_timers && of_deliveries && q.0.is_empty()
    }

    /// Begins a saga.
    pub fn begin(&mut self, saga: Begin) {
        self.begun_by.push(saga.cause);
        self.b.0.push(saga.saga_type);
        self.b.1.push(saga.key);
        self.b.2.push(saga.version);
        self.b.3.push(saga.state);
        self.b.4.push(saga.data);
        self.b.5.push(saga.next_at_us);
        self.b.6.push(saga.log);
    }

    /// Moves a saga on, or ends it.
    pub fn step(&mut self, step: Step) {
        match step.then {
            Standing::Until(next_at_us, overdue) => {
                self.u.0.push(step.saga_type);
                self.u.1.push(step.key);
                self.u.2.push(step.before);
                self.u.3.push(step.after);
                self.u.4.push(step.state);
                self.u.5.push(step.data);
                self.u.6.push(next_at_us);
                self.u.7.push(overdue);
                self.u.8.push(step.log);
                self.u.9.push(step.version);
            }
            Standing::Ended(ending, answer) => {
                self.d.0.push(step.saga_type);
                self.d.1.push(step.key);
                self.d.2.push(step.before);
                self.d.3.push(step.after);
                self.d.4.push(step.state);
                self.d.5.push(step.data);
                self.d.6.push(ending.to_owned());
                self.d.7.push(answer);
                self.d.8.push(step.log);
            }
        }
    }

    /// Sets a timer, or moves it.
    pub fn schedule(&mut self, name: String, due_us: i64, correlation: Option<String>, payload: Vec<u8>) {
        self.t.0.push(name);
        self.t.1.push(due_us);
        self.t.2.push(correlation);
        self.t.3.push(payload);
    }

    /// Sets a delivery aside.
    pub fn hold(&mut self, held: Held) {
        self.h.0.push(held.topic);
        self.h.1.push(held.partition);
        self.h.2.push(held.position);
        self.h.3.push(held.key.map(without_nul));
        self.h.4.push(held.body);
        self.h.5.push(legible(held.reason));
        self.h.6.push(held.attempts);
        self.h.7.push(held.retry_ms);
    }

    /// A held delivery was tried again and stays held.
    pub fn hold_again(&mut self, id: i64, reason: String, attempts: i32, retry_ms: Option<i64>) {
        self.r.0.push(id);
        self.r.1.push(legible(reason));
        self.r.2.push(attempts);
        self.r.3.push(retry_ms);
    }

    /// Records a delivery that changed nothing.
    pub fn ignore(&mut self, source: String, key: Option<String>, reason: String) {
        self.i.0.push(source);
        self.i.1.push(key.map(without_nul));
        self.i.2.push(legible(reason));
    }

    /// Keeps an answer for its idempotency key.
    pub fn keep_answer(&mut self, key: String, hash: Vec<u8>, response: Vec<u8>) {
        self.q.0.push(key);
        self.q.1.push(hash);
        self.q.2.push(response);
    }

    /// Writes all of it, the outbox row last; that row's number when there is one.
    ///
    /// # Errors
    /// Culprits when a saga to begin exists; else what [`Fault::of`] says.
    pub async fn write(
        self,
        connection: &mut PgConnection,
        lease: &LaneLease,
        body: Option<Vec<u8>>,
    ) -> Result<Option<i64>, Fault> {
        let Self { at_us, answers: _, b, begun_by, u, d, t, timers_gone, h, r, held_gone, i, q } = self;
        let begun: Vec<String> =
            b.0.iter().zip(&b.1).map(|(saga_type, key)| format!("{saga_type}/{key}")).collect();
        let row = sqlx::query(
            "SELECT saga.close($1,$2, $3, $4,$5,$6,$7,$8,$9,$10, $11,$12,$13,$14,$15,$16,$17,$18,$19,$20, \
             $21,$22,$23,$24,$25,$26,$27,$28,$29, $30,$31,$32,$33,$34, $35,$36,$37,$38,$39,$40,$41,$42, \
             $43,$44,$45,$46,$47, $48,$49,$50, $51,$52,$53, $54)",
        )
        .bind(lease.slot)
        .bind(&lease.token)
        .bind(at_us)
        .bind(column(b.0))
        .bind(column(b.1))
        .bind(column(b.2))
        .bind(column(b.3))
        .bind(column(b.4))
        .bind(column(b.5))
        .bind(column(b.6))
        .bind(column(u.0))
        .bind(column(u.1))
        .bind(column(u.2))
        .bind(column(u.3))
        .bind(column(u.4))
        .bind(column(u.5))
        .bind(column(u.6))
        .bind(column(u.7))
        .bind(column(u.8))
        .bind(column(u.9))
        .bind(column(d.0))
        .bind(column(d.1))
        .bind(column(d.2))
        .bind(column(d.3))
        .bind(column(d.4))
        .bind(column(d.5))
        .bind(column(d.6))
        .bind(column(d.7))
        .bind(column(d.8))
        .bind(column(t.0))
        .bind(column(t.1))
        .bind(column(t.2))
        .bind(column(t.3))
        .bind(column(timers_gone))
        .bind(column(h.0))
        .bind(column(h.1))
        .bind(column(h.2))
        .bind(column(h.3))
        .bind(column(h.4))
        .bind(column(h.5))
        .bind(column(h.6))
        .bind(column(h.7))
        .bind(column(r.0))
        .bind(column(r.1))
        .bind(column(r.2))
        .bind(column(r.3))
        .bind(column(held_gone))
        .bind(column(i.0))
        .bind(column(i.1))
        .bind(column(i.2))
        .bind(column(q.0))
        .bind(column(q.1))
        .bind(column(q.2))
        .bind(body)
        .fetch_one(connection)
        .await;
        match row {
            Ok(row) => row.try_get(0).map_err(|error| Fault::of(&error)),
            Err(error) => Err(judge(&error, &begun, &begun_by)),
        }
    }
}

/// NULL in place of an empty column: PL/pgSQL unpacks every array that it is given, and of most units most
/// are empty.
fn column<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

/// A reason as far as it is stored.
fn legible(reason: String) -> String {
    let mut reason = without_nul(reason);
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
    }
    reason
}

/// What no text of Postgres can hold would keep a unit from being closed for ever.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

fn judge(error: &sqlx::Error, begun: &[String], begun_by: &[usize]) -> Fault {
    let Some(postgres) =
        error.as_database_error().and_then(|e| e.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    else {
        return Fault::of(error);
    };
    if is_racing_request(postgres.code(), postgres.table()) {
        return Fault::Environment(error.to_string());
    }
    if postgres.code() != "SG101" {
        return Fault::of(error);
    }
    let existing: Vec<&str> = postgres.detail().unwrap_or_default().lines().collect();
    let culprits = begun
        .iter()
        .zip(begun_by)
        .filter(|(name, _)| existing.contains(&name.as_str()))
        .map(|(name, cause)| Culprit {
            cause: *cause,
            reason: format!("saga-conflict: saga {name} exists"),
            until: ParkedUntil::Redriven,
        })
        .collect();
    Fault::Culprits(culprits)
}

/// Another host's lane has answered a request of the same idempotency key meanwhile: when the unit
/// runs again, it finds that answer.
fn is_racing_request(sqlstate: &str, table: Option<&str>) -> bool {
    sqlstate == "23505" && table.is_some_and(|table| table.starts_with("request_"))
}

#[cfg(test)]
mod tests {
    use super::{is_racing_request, legible};

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(legible("b\0ad".into()), "bad");
        assert_eq!(legible("é".repeat(2_001)), "é".repeat(2_000));
    }

    #[test]
    fn only_a_kept_answer_races() {
        for (sqlstate, table, races) in [
            ("23505", Some("request_20261125"), true),
            ("23505", Some("saga_done_20261125"), false),
            ("23505", None, false),
            ("23502", Some("request_20261125"), false),
        ] {
            assert_eq!(is_racing_request(sqlstate, table), races, "{sqlstate} {table:?}");
        }
    }
}
