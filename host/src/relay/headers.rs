//! The headers of a record as Kafka gets them.

use rdkafka::message::{Header, OwnedHeaders};

use crate::model::record::Record;

/// The headers of the record at `index` in the outbox row `seq`.
pub(super) fn kafka_headers(record: &Record, seq: i64, index: usize) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
    for (key, value) in record.kafka_headers(record.sequence(seq, index).as_ref()) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::{Record, kafka_headers};

    fn sent(id: &str, seq: i64, index: usize) -> Vec<(String, String)> {
        let headers = vec![("ce_id".into(), id.to_owned().into()), ("ce_type".into(), "x".into())];
        let (topic, timestamp_ms) = ("t".into(), 5);
        let record = Record { topic, partition: 3, timestamp_ms, key: None, payload: None, headers };
        let headers = kafka_headers(&record, seq, index);
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    #[test]
    fn a_record_gets_the_number_of_its_outbox_row_each_time_it_is_sent() {
        let headers = sent("6921f3c000c0ffee:2:7:17:3", 42, 3);
        assert_eq!(headers, sent("6921f3c000c0ffee:2:7:17:3", 42, 3));
        let sequence = ("ce_sequence".to_owned(), "6921f3c000c0ffee-00000000000000000042-00003".to_owned());
        assert_eq!((headers.len(), headers.last()), (3, Some(&sequence)));
    }

    #[test]
    fn a_record_without_an_identity_has_no_sequence() {
        assert_eq!(sent("cmd-order:2:7:17:3", 42, 3).len(), 2);
    }
}
