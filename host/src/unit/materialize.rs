//! Materializes what a plugin asked for: effects become outbox records, saga rows with their log lines, and
//! timers. Pure: the caller supplies ids and time.

mod records;
mod saga_log;
mod saga_steps;

use std::sync::Arc;

use self::saga_log::LogLines;
use super::{
    rows::{SagaStartRow, TimerRow},
    writes::UnitWrites,
};
use crate::model::{
    effects::{Effects, NewSaga},
    partition_counts::PartitionCounts,
    record::Record,
    saga_log::{Cause, STARTED, rfc3339},
    trace::Trace,
};

/// What stays the same during a unit.
#[derive(Debug)]
pub struct UnitContext<'a> {
    /// Part of every id: `IDENTITY:slot:epoch:unit`.
    pub unit: String,
    /// Database of the plugin.
    pub database: &'a str,
    /// The plugin.
    pub plugin: &'a str,
    /// Microseconds since 1970, by Postgres's clock.
    pub now_us: i64,
    /// Partition counts.
    pub topics: &'a PartitionCounts,
}

/// The delivery or request that caused an effect.
#[derive(Clone, Debug)]
pub struct EffectCause<'a> {
    /// For the saga's log.
    pub cause: Cause<'a>,
    /// Digest of the version that handled it.
    pub digest: &'a str,
    /// The trace that the effect continues.
    pub trace: Trace,
}

/// A saga that ended with the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSaga {
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// `completed`, `compensated` or `failed`.
    pub ending: &'static str,
    /// JSON object for a caller that waits.
    pub answer: Option<String>,
}

/// What a unit sends.
#[derive(Debug, Default)]
pub struct Materialized {
    /// For the outbox.
    pub records: Arc<Vec<Record>>,
    /// For callers that wait, after the commit.
    pub ended: Vec<EndedSaga>,
}

/// Turns effects into records, and adds the rows of sagas and timers to `writes`.
#[must_use]
pub fn materialize(
    context: &UnitContext<'_>,
    effects: Effects,
    causes: &[EffectCause<'_>],
    writes: &mut UnitWrites,
) -> Materialized {
    let Effects { published, started, transitions, timers, cancelled } = effects;
    let at = rfc3339(context.now_us);
    let (records, sent) = records::of(context, &at, published, causes);
    let log = LogLines { at: &at, causes, sent: &sent, records: &records };
    for saga in started {
        start(&log, saga, writes);
    }
    let ended = saga_steps::add(&log, transitions, writes);
    for timer in timers {
        let (due_at_us, correlation) = (timer.due, timer.correlation);
        writes.timers.push(TimerRow { name: timer.name, due_at_us, correlation, payload: timer.payload });
    }
    writes.timers_removed.extend(cancelled);
    writes.at_us = context.now_us;
    Materialized { records: Arc::new(records), ended }
}

fn start(log: &LogLines<'_>, saga: NewSaga, writes: &mut UnitWrites) {
    let row = SagaStartRow {
        log: log.line(saga.cause, STARTED, &saga.state, 1),
        digest: cause_of(log.causes, saga.cause).map_or("", |caused| caused.digest).to_owned(),
        saga_type: saga.saga_type,
        key: saga.key,
        state: saga.state,
        data: saga.data,
        next_at_us: saga.deadline,
    };
    writes.saga_starts.push(place(saga.cause), row);
}

fn cause_of<'a>(causes: &'a [EffectCause<'a>], cause: u32) -> Option<&'a EffectCause<'a>> {
    causes.get(place(cause))
}

/// Of a cause, in the call.
fn place(cause: u32) -> usize {
    usize::try_from(cause).unwrap_or(usize::MAX)
}
