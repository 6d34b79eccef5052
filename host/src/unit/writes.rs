//! What the host writes for a unit, collected until `flush` sends it.

use crate::model::format::Format;

use super::rows::{
    IgnoredRow, ParkedRetryRow, ParkedRow, SagaEndRow, SagaStartRow, SagaStepRow, StoredAnswerRow, TimerRow,
};

/// Of a reason that is stored for a person to read.
const REASON_CHARS_MAX: usize = 2_000;

/// Everything that one call of `saga.flush` writes, apart from the outbox row.
#[derive(Debug, Default)]
pub struct UnitWrites {
    /// The unit's time, microseconds since 1970.
    pub at_us: i64,
    /// The format of the bodies in it.
    pub format: Format,
    /// Whether HTTP callers wait for the commit.
    pub callers_wait: bool,
    /// Sagas that start.
    pub saga_starts: CausedRows<SagaStartRow>,
    /// Sagas that go on.
    pub saga_steps: CausedRows<SagaStepRow>,
    /// Sagas that end.
    pub saga_ends: CausedRows<SagaEndRow>,
    /// Timers to set.
    pub timers: Vec<TimerRow>,
    /// Names of timers that were cancelled or have fired.
    pub timers_removed: Vec<String>,
    pub(super) parked: Vec<ParkedRow>,
    pub(super) parked_retries: Vec<ParkedRetryRow>,
    /// Ids of parked deliveries that were handled.
    pub parked_removed: Vec<i64>,
    pub(super) ignored: Vec<IgnoredRow>,
    /// Answers to store.
    pub stored_answers: Vec<StoredAnswerRow>,
}

/// Rows, each with the delivery or request that is to blame when Postgres refuses it.
#[derive(Debug)]
pub struct CausedRows<Row> {
    /// What is written.
    pub rows: Vec<Row>,
    /// Place of the delivery or request in the batch, one for each row.
    pub causes: Vec<usize>,
}

impl<Row> Default for CausedRows<Row> {
    fn default() -> Self {
        Self { rows: Vec::new(), causes: Vec::new() }
    }
}

impl<Row> CausedRows<Row> {
    /// Adds a row that the delivery or request at `cause` has asked for.
    pub fn push(&mut self, cause: usize, row: Row) {
        self.rows.push(row);
        self.causes.push(cause);
    }
}

impl UnitWrites {
    /// Whether the commit must be on disk before anyone learns of it. A read model's unit may be lost with
    /// the machine: its offset is lost with it, so the unit runs again.
    #[must_use]
    pub fn must_be_durable(&self) -> bool {
        self.callers_wait || !self.is_empty()
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Named one by one: a new kind of write does not compile until it is counted here.
        let Self {
            at_us: _,
            format: _,
            callers_wait: _,
            saga_starts,
            saga_steps,
            saga_ends,
            timers,
            timers_removed,
            parked,
            parked_retries,
            parked_removed,
            ignored,
            stored_answers,
        } = self;
        let no_sagas = saga_starts.rows.is_empty() && saga_steps.rows.is_empty() && saga_ends.rows.is_empty();
        let no_timers = timers.is_empty() && timers_removed.is_empty();
        let none_parked = parked.is_empty() && parked_retries.is_empty() && parked_removed.is_empty();
        no_sagas && no_timers && none_parked && ignored.is_empty() && stored_answers.is_empty()
    }

    /// Parks a delivery.
    pub fn park(&mut self, row: ParkedRow) {
        let (key, reason) = (row.key.map(without_nul), readable(row.reason));
        self.parked.push(ParkedRow { key, reason, ..row });
    }

    /// Leaves a parked delivery, which was tried again, where it is.
    pub fn park_again(&mut self, row: ParkedRetryRow) {
        self.parked_retries.push(ParkedRetryRow { reason: readable(row.reason), ..row });
    }

    /// Records a delivery that changed nothing.
    pub fn ignore(&mut self, row: IgnoredRow) {
        let (key, reason) = (row.key.map(without_nul), readable(row.reason));
        self.ignored.push(IgnoredRow { key, reason, ..row });
    }
}

/// A reason in the length in which it is stored.
fn readable(reason: String) -> String {
    let mut reason = without_nul(reason);
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
    }
    reason
}

/// Postgres stores no NUL in a text. A unit with one could never be flushed.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

#[cfg(test)]
mod tests {
    use super::{IgnoredRow, UnitWrites, readable};

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(readable("b\0ad".into()), "bad");
        assert_eq!(readable("é".repeat(2_001)), "é".repeat(2_000));
    }

    #[test]
    fn a_unit_that_writes_or_answers_must_be_durable() {
        let mut writes = UnitWrites::default();
        assert!(writes.is_empty() && !writes.must_be_durable());
        assert!(UnitWrites { callers_wait: true, ..UnitWrites::default() }.must_be_durable());
        writes.ignore(IgnoredRow { source: "t/0/1".into(), key: None, reason: "late".into() });
        assert!(!writes.is_empty() && writes.must_be_durable());
    }
}
