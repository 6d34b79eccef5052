//! All records of a run, read by a consumer of its own, also of topics that were deleted meanwhile.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;

use saga_testkit::topic::{Record, blocking, reader};

const OURS: &str = "/saga-host/";

/// What the checks need of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::chaos) struct Archived {
    pub(in crate::chaos) topic: String,
    pub(in crate::chaos) partition: i32,
    pub(in crate::chaos) offset: i64,
    /// How often the topic was deleted before.
    pub(in crate::chaos) era: i32,
    pub(in crate::chaos) key: Option<String>,
    pub(in crate::chaos) value: Option<String>,
    pub(in crate::chaos) id: Option<String>,
    /// Whether a saga-host has published it.
    pub(in crate::chaos) ours: bool,
    /// Hash of everything in it.
    pub(in crate::chaos) content: i64,
}

/// The records that were read so far.
#[derive(Debug, Default)]
pub(in crate::chaos) struct Archive {
    pub(in crate::chaos) records: Vec<Archived>,
    eras: BTreeMap<String, i32>,
}

impl Archive {
    /// Reads a topic that is going to be deleted.
    ///
    /// # Errors
    /// Kafka is unreachable.
    pub(in crate::chaos) async fn keep(&mut self, kafka: &str, topic: &str) -> Result<()> {
        self.read(kafka, &[topic.to_owned()]).await?;
        *self.eras.entry(topic.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Reads these topics as they are at the end, those of a partition in order.
    ///
    /// # Errors
    /// Kafka is unreachable.
    pub(in crate::chaos) async fn read(&mut self, kafka: &str, topics: &[String]) -> Result<()> {
        let (kafka, topics, eras) = (kafka.to_owned(), topics.to_vec(), self.eras.clone());
        let read = blocking(move || {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let mut read = Vec::new();
            reader::read_all(&kafka, &names, |record| read.push(archived(&record, &eras)))?;
            Ok(read)
        });
        self.records.extend(read.await?);
        Ok(())
    }
}

fn archived(record: &Record, eras: &BTreeMap<String, i32>) -> Archived {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    let mut hasher = DefaultHasher::new();
    let Record { topic, partition, key, value, headers, .. } = record;
    (topic, partition, key, value, headers).hash(&mut hasher);
    Archived {
        topic: topic.clone(),
        partition: *partition,
        offset: record.offset,
        era: eras.get(topic).copied().unwrap_or_default(),
        key: key.as_ref().map(text),
        value: value.as_ref().map(text),
        id: record.header("ce_id").map(str::to_owned),
        ours: record.header("ce_source").is_some_and(|source| source.starts_with(OURS)),
        content: hasher.finish().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::archived;
    use saga_testkit::topic::Record;

    fn record(source: &str, value: &[u8]) -> Record {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        Record {
            topic: "t".to_owned(),
            partition: 1,
            offset: 2,
            key: None,
            value: Some(value.to_vec()),
            headers: vec![header("ce_id", "i"), header("ce_source", source)],
        }
    }

    #[test]
    fn a_record_keeps_its_era_and_a_hash_of_its_content() {
        let eras = BTreeMap::from([("t".to_owned(), 3)]);
        let first = archived(&record("/saga-host/d/p", b"a\0\xff"), &eras);
        assert_eq!((first.era, first.ours, first.value.as_deref()), (3, true, Some("a\u{fffd}\u{fffd}")));
        assert!(!archived(&record("/other", b"a"), &eras).ours);
        let second = Record { offset: 9, ..record("/saga-host/d/p", b"a\0\xff") };
        assert_eq!(archived(&second, &eras).content, first.content, "the same record at another offset");
        assert_ne!(archived(&record("/saga-host/d/p", b"b"), &eras).content, first.content);
    }
}
