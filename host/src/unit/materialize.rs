//! From what a plugin asked for to what is written: effects become outbox records, saga steps with
//! their log, and timers. Pure but for the ids that it is given.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use hashbrown::HashTable;

use super::flush::{Begin, Standing, Step, UnitWrites};
use crate::{
    kafka::Topics,
    model::{
        effects::{Effects, Ending, Outgoing, Status, Transition},
        record::{MESSAGE_ID, Record, partition_of},
        saga_log::{Cause, Entry, Sent, rfc3339},
        trace::Trace,
    },
};

/// The event by which a plugin says that a saga's deadline has passed unanswered.
pub const OVERDUE_EVENT: &str = "SAGA_OVERDUE";

/// What stays the same during a unit.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Part of every id: `database:slot:epoch:unit`.
    pub unit: String,
    /// Database of the plugin.
    pub database: &'a str,
    /// The plugin.
    pub plugin: &'a str,
    /// Microseconds since 1970, read when the plugin has all its row locks: what was decided later on a row
    /// is then sent under a later time, whichever lane decides, or host as far as the clocks agree.
    pub now_us: i64,
    /// Partition counts.
    pub topics: &'a Topics,
}

/// Who caused an effect.
#[derive(Clone, Debug)]
pub struct Caused<'a> {
    /// For the saga's log.
    pub cause: Cause<'a>,
    /// Digest of the version that handled it.
    pub digest: &'a str,
    /// The trace that goes on.
    pub trace: Trace,
}

/// A saga that ended with the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// JSON object for a caller that waits.
    pub answer: Option<String>,
}

/// What a unit writes and sends.
#[derive(Debug, Default)]
pub struct Materialized {
    /// For the outbox.
    pub records: Arc<Vec<Record>>,
    /// For whoever waits, after the commit.
    pub ended: Vec<Ended>,
}

/// Turns effects into records and adds the rest to `writes`.
#[must_use]
pub fn materialize(
    setting: &Setting<'_>,
    effects: Effects,
    causes: &[Caused<'_>],
    writes: &mut UnitWrites,
) -> Materialized {
    let at = rfc3339(setting.now_us);
    let mut sent = Vec::with_capacity(effects.published.len());
    let mut records = Vec::with_capacity(effects.published.len());
    let shared = SharedHeaders::of(setting, &at);
    for (index, outgoing) in effects.published.into_iter().enumerate() {
        sent.push((outgoing.cause, index));
        let trace = cause_of(causes, outgoing.cause).map_or_else(Trace::begin, |caused| caused.trace);
        records.push(record(setting, &shared, outgoing, index, trace));
    }
    // Stable: what one cause has sent stays in its order.
    sent.sort_by_key(|(cause, _)| *cause);
    let log = Log { at: &at, causes, sent: &sent, records: &records };
    for saga in effects.begun {
        writes.begin(Begin {
            cause: usize::try_from(saga.cause).unwrap_or(0),
            log: log.line(saga.cause, "SAGA_BEGUN", &saga.state, 1),
            version: cause_of(causes, saga.cause).map_or("", |caused| caused.digest).to_owned(),
            saga_type: saga.saga_type,
            key: saga.key,
            state: saga.state,
            data: saga.data,
            next_at_us: saga.deadline,
        });
    }
    let ended = advance(&log, effects.transitions, writes);
    writes.at_us = setting.now_us;
    for timer in effects.timers {
        writes.schedule(timer.name, timer.due, timer.correlation, timer.payload);
    }
    writes.timers_gone.extend(effects.cancelled);
    Materialized { records: Arc::new(records), ended }
}

fn cause_of<'a>(causes: &'a [Caused<'a>], cause: u32) -> Option<&'a Caused<'a>> {
    causes.get(usize::try_from(cause).ok()?)
}

/// Values that all records of a unit have.
struct SharedHeaders {
    source: Bytes,
    time: Bytes,
}

impl SharedHeaders {
    fn of(setting: &Setting<'_>, at: &str) -> Self {
        let source = format!("/saga-host/{}/{}", setting.database, setting.plugin);
        Self { source: source.into(), time: at.to_owned().into() }
    }
}

/// CloudEvents 1.0, Kafka binary mode, and W3C Trace Context.
fn record(
    setting: &Setting<'_>,
    shared: &SharedHeaders,
    outgoing: Outgoing,
    index: usize,
    trace: Trace,
) -> Record {
    let id = format!("{}:{index}", setting.unit);
    let partitions = setting.topics.partitions(&outgoing.topic);
    let partition = match &outgoing.key {
        Some(key) => partition_of(key, partitions),
        None => i32::try_from(index).unwrap_or(0) % partitions.max(1),
    };
    let mut headers = Vec::with_capacity(7 + outgoing.headers.len());
    let mut add = |name: &'static str, value: Bytes| headers.push((Cow::Borrowed(name), value));
    add("ce_specversion", Bytes::from_static(b"1.0"));
    add("ce_type", outgoing.event_type.into());
    add("ce_source", shared.source.clone());
    add("ce_time", shared.time.clone());
    add("content-type", outgoing.content_type.into());
    add("traceparent", trace.child(span(&id)).into());
    add(MESSAGE_ID, id.into());
    headers.extend(outgoing.headers.into_iter().map(|(name, value)| (Cow::Owned(name), value.into())));
    Record {
        topic: outgoing.topic,
        partition,
        timestamp_ms: setting.now_us / 1_000,
        key: outgoing.key.map(Bytes::from),
        payload: outgoing.payload.map(Bytes::from),
        headers,
    }
}

/// A span id that a repeat of the unit's record would have again: FNV-1a of the message id.
fn span(id: &str) -> u64 {
    id.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Log<'a> {
    at: &'a str,
    causes: &'a [Caused<'a>],
    /// Causes with the places of the records that they have sent, sorted.
    sent: &'a [(u32, usize)],
    records: &'a [Record],
}

impl Log<'_> {
    fn line(&self, cause: u32, event: &str, state: &str, revision: i64) -> String {
        let Some(caused) = cause_of(self.causes, cause) else { return String::new() };
        let entry = Entry {
            at: self.at.into(),
            event: event.into(),
            state: state.into(),
            revision,
            digest: caused.digest.into(),
            trace: caused.trace.id(),
            cause: Cow::Borrowed(&caused.cause),
            sent: self.sent_by(cause),
        };
        entry.line()
    }

    fn sent_by(&self, cause: u32) -> Vec<Sent<'_>> {
        let first = self.sent.partition_point(|(before, _)| *before < cause);
        let of_cause = self.sent[first..].iter().take_while(|(by, _)| *by == cause);
        of_cause
            .map(|(_, place)| &self.records[*place])
            .map(|r| Sent { topic: (&*r.topic).into(), id: r.id().into() })
            .collect()
    }
}

/// Several transitions of one saga become one step.
fn advance(log: &Log<'_>, transitions: Vec<Transition>, writes: &mut UnitWrites) -> Vec<Ended> {
    let mut steps: Vec<Step> = Vec::with_capacity(transitions.len());
    // Places in `steps`, by type and key.
    let mut places: HashTable<usize> = HashTable::with_capacity(transitions.len());
    let hasher = RandomState::new();
    for transition in transitions {
        let hash = hasher.hash_one((&transition.saga_type, &transition.key));
        let is_same = |step: &Step| step.key == transition.key && step.saga_type == transition.saga_type;
        let place = places.find(hash, |place| is_same(&steps[*place])).copied();
        let before = i64::try_from(transition.expected_revision).unwrap_or(i64::MAX);
        let line = log.line(transition.cause, &transition.event, &transition.state, before + 1);
        let was_overdue = transition.event == OVERDUE_EVENT;
        // That a deadline has passed, the host may say itself: then nobody has taken the saga over.
        let is_handled = !was_overdue || transition.data.is_some();
        let handler = cause_of(log.causes, transition.cause).filter(|_| is_handled);
        let version = handler.map(|caused| caused.digest.to_owned());
        let then = match transition.status {
            Status::Until(next_at_us) => Standing::Until(next_at_us, was_overdue),
            Status::Finished(finish) => Standing::Ended(ending(finish.ending), finish.answer),
        };
        match place {
            Some(place) => {
                let step = &mut steps[place];
                step.after = before + 1;
                step.state = transition.state;
                step.data = transition.data.or(step.data.take());
                step.log.push_str(&line);
                step.version = version.or(step.version.take());
                step.then = then;
            }
            None => {
                places.insert_unique(hash, steps.len(), |place| {
                    hasher.hash_one((&steps[*place].saga_type, &steps[*place].key))
                });
                steps.push(Step {
                    saga_type: transition.saga_type,
                    key: transition.key,
                    before,
                    after: before + 1,
                    state: transition.state,
                    data: transition.data,
                    log: line,
                    version,
                    then,
                });
            }
        }
    }
    let mut ended = Vec::new();
    for step in steps {
        if let Standing::Ended(_, answer) = &step.then {
            ended.push(Ended {
                saga_type: step.saga_type.clone(),
                key: step.key.clone(),
                answer: answer.clone(),
            });
        }
        writes.step(step);
    }
    ended
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Compensated => "compensated",
        Ending::Failed => "failed",
    }
}
