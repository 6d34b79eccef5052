//! Lines of a saga's log: what happened, through which delivery or request, and which records it sent.

use std::borrow::Cow;

use super::{EffectCause, cause_of};
use crate::model::{
    record::Record,
    saga_log::{Entry, Sent},
};

/// What the log lines of one unit are made of.
pub(super) struct LogLines<'a> {
    pub(super) at: &'a str,
    pub(super) causes: &'a [EffectCause<'a>],
    /// (cause, index of the record), sorted by cause.
    pub(super) sent: &'a [(u32, usize)],
    pub(super) records: &'a [Record],
}

impl LogLines<'_> {
    pub(super) fn line(&self, cause: u32, event: &str, state: &str, revision: i64) -> String {
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
        let first = self.sent.partition_point(|(earlier, _)| *earlier < cause);
        let of_cause = self.sent[first..].iter().take_while(|(by, _)| *by == cause);
        of_cause
            .map(|(_, index)| &self.records[*index])
            .map(|record| Sent { topic: (&*record.topic).into(), id: record.id().into() })
            .collect()
    }
}
