//! Sends parked records again, after a person has redriven them or has discarded the one before them.
//!
//! One key at a time, each record alone and in its order. Later records of the key are parked behind
//! ([`super::parked_records`]) until the last row of the key is gone, so none passes an earlier one.
//!
//! A redriven record gets a new message id, of slot 0: under its old id, readers that have seen later records
//! of its lane would take it for a repeat. The ids are stored before the first record is sent, and an
//! interrupted redrive is continued before any other.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::{
    alone::Judged,
    in_flight::Place,
    parked_records::ParkedRecords,
    parked_rows::{self, ParkedRow},
    refusal::Refusal,
};
use crate::model::{
    identity::Identity,
    record::{MESSAGE_ID, Record, decode},
};

/// Pause after a passing error, doubled with each further one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Acknowledged rows that are deleted together, at most.
const DELETE_ROWS_MAX: usize = 50;

/// A record to send.
#[derive(Debug)]
struct Pending {
    row_id: i64,
    position: i64,
    /// Whether its row has no further record. A row has several when a whole unit could not be decoded.
    ends_row: bool,
    record: Record,
}

/// The next record to send.
#[derive(Debug)]
pub(super) struct NextRecord {
    pub(super) record: Record,
    /// Where it was in the outbox.
    pub(super) position: i64,
    pub(super) with_present_time: bool,
}

/// The redrive of one database.
#[derive(Debug)]
pub(super) struct Redrive {
    /// The next records of one key.
    pending: VecDeque<Pending>,
    under_way: bool,
    with_present_time: bool,
    /// Rows whose records Kafka has acknowledged.
    acknowledged: Vec<i64>,
    /// A passing error, since when.
    passing: Option<(String, Instant)>,
    retry_pause: Duration,
    retry_at: Instant,
}

impl Default for Redrive {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            under_way: false,
            with_present_time: false,
            acknowledged: Vec::new(),
            passing: None,
            retry_pause: RETRY_PAUSE_MIN,
            retry_at: Instant::now(),
        }
    }
}

impl Redrive {
    /// The record to send now, if any. Reads the next rows when the last ones are done.
    pub(super) async fn next(
        &mut self,
        database: &mut PgConnection,
        identity: Identity,
        parked: &mut ParkedRecords,
    ) -> anyhow::Result<Option<NextRecord>> {
        if self.under_way || self.retry_at > Instant::now() {
            return Ok(None);
        }
        if self.pending.is_empty() {
            self.end(database, parked).await?;
            self.begin(database, identity, parked).await?;
        }
        let Some(pending) = self.pending.front() else { return Ok(None) };
        self.under_way = true;
        Ok(Some(NextRecord {
            record: pending.record.clone(),
            position: pending.position,
            with_present_time: self.with_present_time,
        }))
    }

    /// Reads the next rows of a due key and gives each record its id.
    async fn begin(
        &mut self,
        database: &mut PgConnection,
        identity: Identity,
        parked: &mut ParkedRecords,
    ) -> anyhow::Result<()> {
        let Some(first) = parked.next_due() else { return Ok(()) };
        let rows = parked_rows::next_of(database, first).await?;
        if rows.is_empty() {
            return parked.load(database).await;
        }
        let (epoch, unit) = parked_rows::next_unit(database).await?;
        let base = format!("{identity}:0:{epoch}:{unit}");
        let mut next_index = 0;
        let (mut ids, mut sent_as) = (Vec::new(), Vec::new());
        for row in rows {
            let (id, position) = (row.id, row.position);
            // Ids that another database has given, of which this one is a copy, are given anew.
            let given = row.sent_as.clone().filter(|id| id.starts_with(&identity.to_string()));
            let first_id = given.unwrap_or_else(|| format!("{base}:{next_index}"));
            match records_of(row, &first_id) {
                Ok(records) => {
                    next_index += records.len();
                    ids.push(id);
                    sent_as.push(first_id);
                    let last = records.len().saturating_sub(1);
                    let pending = (position..).zip(records).enumerate();
                    self.pending.extend(pending.map(|(index, (position, record))| Pending {
                        row_id: id,
                        position,
                        ends_row: index == last,
                        record,
                    }));
                }
                Err(error) => {
                    let reason = format!("it was written by another version of saga-host: {error:#}");
                    parked_rows::refuse_again(database, id, &reason, &[]).await?;
                    parked.load(database).await?;
                    break;
                }
            }
        }
        let stored = parked_rows::set_sent_as(database, &ids, &sent_as).await;
        if stored.is_err() {
            self.pending.clear();
        }
        stored
    }

    /// Kafka has answered to the record that was sent.
    pub(super) async fn answered(
        &mut self,
        database: &mut PgConnection,
        parked: &mut ParkedRecords,
        answer: Judged,
    ) -> anyhow::Result<()> {
        self.under_way = false;
        let had_present_time = std::mem::take(&mut self.with_present_time);
        match answer {
            Ok(()) => {
                self.passing = None;
                self.retry_pause = RETRY_PAUSE_MIN;
                let Some(sent) = self.pending.pop_front() else { return Ok(()) };
                if sent.ends_row {
                    self.acknowledged.push(sent.row_id);
                }
                if self.acknowledged.len() >= DELETE_ROWS_MAX { self.delete(database).await } else { Ok(()) }
            }
            Err((Refusal::OfRecord, reason)) => self.refused(database, parked, &reason).await,
            Err((Refusal::OfTimestamp, _)) if !had_present_time => {
                self.with_present_time = true;
                Ok(())
            }
            Err((Refusal::NotSent, _)) => Ok(()),
            Err((_, reason)) => {
                self.with_present_time = had_present_time;
                self.passing.get_or_insert((String::new(), Instant::now())).0 = reason;
                self.retry_at = Instant::now() + self.retry_pause;
                self.retry_pause = (self.retry_pause * 2).min(RETRY_PAUSE_MAX);
                Ok(())
            }
        }
    }

    /// The record stays parked, and those behind it.
    async fn refused(
        &mut self,
        database: &mut PgConnection,
        parked: &mut ParkedRecords,
        reason: &str,
    ) -> anyhow::Result<()> {
        self.delete(database).await?;
        let Some(refused) = self.pending.front() else { return Ok(()) };
        let (row_id, record) = (refused.row_id, &refused.record);
        tracing::error!(
            plugin = record.plugin(),
            topic = record.topic,
            partition = record.partition,
            id = record.id(),
            reason,
            "Kafka refuses a redriven record again, it stays parked"
        );
        let behind: Vec<i64> = self.pending.iter().skip(1).map(|pending| pending.row_id).collect();
        parked_rows::refuse_again(database, row_id, reason, &behind).await?;
        self.passing = None;
        self.pending.clear();
        parked.load(database).await
    }

    async fn delete(&mut self, database: &mut PgConnection) -> anyhow::Result<()> {
        if !self.acknowledged.is_empty() {
            parked_rows::delete(database, &self.acknowledged).await?;
            self.acknowledged.clear();
        }
        Ok(())
    }

    /// All records that were read are sent.
    async fn end(&mut self, database: &mut PgConnection, parked: &mut ParkedRecords) -> anyhow::Result<()> {
        if self.acknowledged.is_empty() {
            return Ok(());
        }
        self.delete(database).await?;
        parked.load(database).await
    }

    /// When there is something to do without an answer of Kafka.
    pub(super) fn next_at(&self, parked: &ParkedRecords) -> Option<Instant> {
        let waits = !self.pending.is_empty() || parked.next_due().is_some() || !self.acknowledged.is_empty();
        (waits && !self.under_way).then_some(self.retry_at)
    }

    /// The partition that refuses a redriven record for now, the reason, and since when.
    pub(super) fn waiting(&self) -> Option<(Place, String, Instant)> {
        let record = &self.pending.front()?.record;
        let (reason, since) = self.passing.clone()?;
        Some(((record.topic.clone(), record.partition), reason, since))
    }
}

/// The records of a row, under ids that count from `first_id`.
fn records_of(row: ParkedRow, first_id: &str) -> anyhow::Result<Vec<Record>> {
    let mut records = decode(&row.body)?;
    let (unit, first) = first_id.rsplit_once(':').unwrap_or((first_id, "0"));
    let first: usize = first.parse().unwrap_or(0);
    for (place, record) in records.iter_mut().enumerate() {
        record.headers.retain(|(name, _)| name != MESSAGE_ID);
        record.headers.push((MESSAGE_ID.into(), format!("{unit}:{}", first + place).into()));
    }
    Ok(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{ParkedRow, Record, records_of};
    use crate::model::record::encode;

    #[test]
    fn records_keep_everything_but_their_ids() {
        let record = |value: &str| Record {
            topic: "t".into(),
            partition: 3,
            timestamp_ms: 5,
            key: Some(b"k"[..].into()),
            payload: Some(value.to_owned().into()),
            headers: vec![("ce_id".into(), b"d:2:1:1:0"[..].into()), ("ce_type".into(), b"x"[..].into())],
        };
        let body = encode(&[record("1"), record("2")]).unwrap();
        let sent = records_of(ParkedRow { id: 1, position: 0, body, sent_as: None }, "d:0:7:9:40").unwrap();
        let ids: Vec<_> = sent.iter().map(|record| record.headers.last().unwrap().1.as_ref()).collect();
        assert_eq!(ids, [b"d:0:7:9:40", b"d:0:7:9:41"]);
        assert_eq!(sent[1].payload.as_deref(), Some(&b"2"[..]));
        assert_eq!((sent[0].headers.len(), sent[0].partition, sent[0].timestamp_ms), (2, 3, 5));
        assert!(
            records_of(ParkedRow { id: 1, position: 0, body: b"\xff".to_vec(), sent_as: None }, "d:0:7:9:0")
                .is_err()
        );
    }
}
