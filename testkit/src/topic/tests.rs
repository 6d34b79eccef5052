//! Against the mock broker of librdkafka.

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::groups::Groups;
use super::reader;
use super::writer::{Draft, Writer};
use super::{blocking, consumer, partition_of, partitions};
use crate::service::{STOCK_CREATED, TOPICS};

/// Values of Kafka's own `UtilsTest.testMurmur2`.
#[test]
fn partitions_are_those_of_java_clients() {
    let known =
        [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)];
    for (key, hash) in known {
        assert_eq!(partition_of(key.as_bytes(), 1000), (hash & 0x7fff_ffff) % 1000, "{key}");
    }
}

#[tokio::test]
async fn what_is_written_is_read_from_the_first_record_and_from_a_mark() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let writer = Writer::new(&brokers).unwrap();
    let headers = vec![("ce_id".to_owned(), "1".to_owned())];
    let first = Draft { key: Some("k".to_owned()), partition: Some(1), headers, ..Draft::text("a") };
    assert_eq!(writer.write("t", &first).await.unwrap(), (1, 0));
    let mark = {
        let brokers = brokers.clone();
        blocking(move || reader::ends(&brokers, &["t"])).await.unwrap()
    };
    assert_eq!(mark, [("t".to_owned(), 0, 0), ("t".to_owned(), 1, 1)]);
    writer.write("t", &Draft { partition: Some(1), ..Draft::default() }).await.unwrap();
    let (all, later, count) = blocking(move || {
        let (mut all, mut later) = (Vec::new(), Vec::new());
        reader::read_all(&brokers, &["t"], |record| all.push(record))?;
        reader::read_from(&brokers, &mark, |record| later.push(record))?;
        Ok((all, later, partitions(&brokers, "t")?))
    })
    .await
    .unwrap();
    assert_eq!((all.len(), later.len(), count), (2, 1, 2));
    assert_eq!((all[0].text(), all[0].key_text(), all[0].header("ce_id")), ("a", Some("k"), Some("1")));
    assert_eq!((later[0].value.as_deref(), later[0].offset, later[0].headers.len()), (None, 1, 0));
}

#[tokio::test]
async fn a_group_is_behind_until_it_commits() {
    let cluster = MockCluster::new(1).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    Writer::new(&brokers).unwrap().write(STOCK_CREATED, &Draft::text("a")).await.unwrap();
    blocking(move || {
        let groups = Groups::new(&brokers)?;
        assert_eq!(groups.lag()?, [("inventory-query", STOCK_CREATED, 0, 1)]);
        let mut at = TopicPartitionList::new();
        at.add_partition_offset(STOCK_CREATED, 0, Offset::Offset(1))?;
        consumer(&brokers, "inventory-query")?.commit(&at, CommitMode::Sync)?;
        assert_eq!(groups.lag()?, []);
        Ok(())
    })
    .await
    .unwrap();
}
