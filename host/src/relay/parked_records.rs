//! Records that are not sent: Kafka has refused them, or an earlier record of their key is parked.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::{
    in_flight::position,
    parked_rows::{self, FirstParked, key_text},
};
use crate::model::record::Record;

/// The parked records of one database, as its leader knows them.
#[derive(Debug, Default)]
pub(super) struct ParkedRecords {
    /// (unit, index) of parked records whose unit is still in the outbox.
    skipped: HashSet<(i64, usize)>,
    /// By topic and key: the position of the first parked record.
    first_by_key: HashMap<(String, String), i64>,
    /// Those that are to be sent now: interrupted attempts first, then in the order of their positions.
    due: Vec<FirstParked>,
    /// Whether any record is parked.
    any: bool,
}

impl ParkedRecords {
    /// Reads the parked keys from the database.
    pub(super) async fn load(&mut self, database: &mut PgConnection) -> anyhow::Result<()> {
        let (first, any) = parked_rows::first_parked(database).await?;
        self.any = any;
        let keyed =
            first.iter().filter_map(|row| Some(((row.topic.clone(), row.key.clone()?), row.position)));
        self.first_by_key = keyed.collect();
        self.due = first.into_iter().filter(|row| row.due || row.started).collect();
        self.due.sort_by_key(|row| (!row.started, row.position));
        Ok(())
    }

    /// Reads the parked keys again while there are any: a person may have redriven or discarded them.
    pub(super) async fn reload(&mut self, database: &mut PgConnection) -> anyhow::Result<()> {
        if self.any { self.load(database).await } else { Ok(()) }
    }

    /// The next key, or record without a key, to send.
    pub(super) fn next_due(&self) -> Option<&FirstParked> {
        self.due.first()
    }

    /// A snapshot of the outbox shows these records of a unit as parked.
    pub(super) fn skip(&mut self, seq: i64, indexes: &[usize]) {
        self.skipped.extend(indexes.iter().map(|index| (seq, *index)));
    }

    /// Whether a record of a unit must not be sent.
    pub(super) fn is_skipped(&self, seq: i64, index: usize) -> bool {
        !self.skipped.is_empty() && self.skipped.contains(&(seq, index))
    }

    /// Parks a record that Kafka has refused, with the reason that a person is shown.
    pub(super) async fn park(
        &mut self,
        database: &mut PgConnection,
        (seq, index): (i64, usize),
        record: &Record,
        reason: &str,
    ) -> anyhow::Result<()> {
        parked_rows::park(database, (seq, index), record, reason).await?;
        self.skipped.insert((seq, index));
        self.any = true;
        if let Some(key) = record.key.as_deref() {
            let first = self.first_by_key.entry((record.topic.clone(), key_text(key))).or_insert(i64::MAX);
            *first = position(seq, index).min(*first);
        }
        Ok(())
    }

    /// Parks an outbox row that cannot be decoded.
    pub(super) async fn park_undecodable(
        &mut self,
        database: &mut PgConnection,
        seq: i64,
        reason: &str,
    ) -> anyhow::Result<()> {
        self.any = true;
        parked_rows::park_undecodable(database, seq, reason).await
    }

    /// Whether a record's key may have an earlier parked record.
    pub(super) fn has_keys(&self) -> bool {
        !self.first_by_key.is_empty()
    }

    /// Parks a record if its key has an earlier parked record; whether it must not be sent.
    pub(super) async fn park_one_behind(
        &mut self,
        database: &mut PgConnection,
        (seq, index): (i64, usize),
        record: &Record,
    ) -> anyhow::Result<bool> {
        if self.is_skipped(seq, index) {
            return Ok(true);
        }
        if !self.is_behind(position(seq, index), record) {
            return Ok(false);
        }
        // A person may have discarded the earlier one: only the database knows.
        let parked = parked_rows::park_behind(database, (seq, index), record).await?;
        if parked {
            self.skipped.insert((seq, index));
        } else {
            self.load(database).await?;
        }
        Ok(parked)
    }

    fn is_behind(&self, position: i64, record: &Record) -> bool {
        let Some(key) = record.key.as_deref() else { return false };
        let name = (record.topic.clone(), key_text(key));
        self.first_by_key.get(&name).is_some_and(|first| *first < position)
    }

    /// Forgets units whose outbox rows are deleted.
    pub(super) fn forget(&mut self, seqs: &[i64]) {
        if !self.skipped.is_empty() {
            self.skipped.retain(|(seq, _)| !seqs.contains(seq));
        }
    }
}
