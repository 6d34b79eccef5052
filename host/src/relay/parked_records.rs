//! Records that are not sent: Kafka has refused them, or an earlier record of their key is parked.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::{
    order::Records,
    outbox::{self, position},
};
use crate::model::record::Record;

/// The parked records of one database, as its leader knows them.
#[derive(Debug, Default)]
pub(super) struct ParkedRecords {
    /// (unit, index) of parked records whose unit is still in the outbox.
    skipped: HashSet<(i64, usize)>,
    /// By topic and key: the position of the first parked record.
    first_by_key: HashMap<(String, String), i64>,
}

impl ParkedRecords {
    /// Reads the parked keys from the database.
    pub(super) async fn load(&mut self, database: &mut PgConnection) -> anyhow::Result<()> {
        self.first_by_key = outbox::first_parked(database).await?;
        Ok(())
    }

    /// Reads the parked keys again while there are any: a person may have redriven or discarded them.
    pub(super) async fn reload(&mut self, database: &mut PgConnection) -> anyhow::Result<()> {
        if self.first_by_key.is_empty() { Ok(()) } else { self.load(database).await }
    }

    /// A snapshot of the outbox shows these records of a unit as parked.
    pub(super) fn skip(&mut self, seq: i64, indexes: &[usize]) {
        self.skipped.extend(indexes.iter().map(|index| (seq, *index)));
    }

    /// The indexes of a unit's records that must not be sent.
    pub(super) fn skipped_of(&self, seq: i64, records: &Records) -> Vec<usize> {
        (0..records.len()).filter(|index| self.skipped.contains(&(seq, *index))).collect()
    }

    /// Parks one record with the reason that a person is shown.
    pub(super) async fn park(
        &mut self,
        database: &mut PgConnection,
        seq: i64,
        index: usize,
        record: &Record,
        reason: &str,
    ) -> anyhow::Result<()> {
        outbox::park(database, seq, index, record, reason).await?;
        self.skipped.insert((seq, index));
        Ok(())
    }

    /// Parks the records of a unit whose key has an earlier parked record.
    pub(super) async fn park_behind(
        &mut self,
        database: &mut PgConnection,
        seq: i64,
        records: &Records,
    ) -> anyhow::Result<()> {
        if self.first_by_key.is_empty() || self.behind(seq, records).is_empty() {
            return Ok(());
        }
        // A redrive commits the record's new outbox row together with the end of its parking: only the
        // database knows whether the earlier record is still parked.
        self.load(database).await?;
        for index in self.behind(seq, records) {
            let reason = "an earlier record of its key is parked";
            self.park(database, seq, index, &records[index], reason).await?;
        }
        Ok(())
    }

    fn behind(&self, seq: i64, records: &Records) -> Vec<usize> {
        let is_behind = |(index, record): &(usize, &Record)| self.is_behind(position(seq, *index), record);
        records.iter().enumerate().filter(is_behind).map(|(index, _)| index).collect()
    }

    fn is_behind(&self, position: i64, record: &Record) -> bool {
        let Some(key) = record.key.as_deref() else { return false };
        let name = (record.topic.clone(), String::from_utf8_lossy(key).into_owned());
        self.first_by_key.get(&name).is_some_and(|first| *first < position)
    }

    /// Forgets units whose outbox rows are deleted.
    pub(super) fn forget(&mut self, seqs: &[i64]) {
        if !self.skipped.is_empty() {
            self.skipped.retain(|(seq, _)| !seqs.contains(seq));
        }
    }
}
