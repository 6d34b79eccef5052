//! Writes records that rdkafka cannot: with a header's name of any bytes, compressed, or in a transaction.

use std::{ffi::CString, ptr, time::Duration};

use rdkafka::{
    ClientConfig,
    bindings::{
        rd_kafka_header_add, rd_kafka_headers_new, rd_kafka_producev, rd_kafka_resp_err_t,
        rd_kafka_vtype_t as vtype,
    },
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::SOON;

/// Writes one record without key whose only header has this name. Blocks.
#[allow(unsafe_code, reason = "rdkafka takes names as text only")]
pub(crate) fn with_header_name(brokers: &str, topic: &str, name: &[u8], value: &str) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = CString::new(topic).unwrap();
    // SAFETY: all pointers live until the calls return. librdkafka copies the value (flag 2) and owns the
    // headers once it has accepted the record.
    let answer = unsafe {
        let headers = rd_kafka_headers_new(1);
        let bytes = isize::try_from(name.len()).unwrap();
        let added = rd_kafka_header_add(headers, name.as_ptr().cast(), bytes, ptr::null(), 0);
        assert_eq!(added, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        rd_kafka_producev(
            producer.client().native_ptr(),
            vtype::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_PARTITION,
            0_i32,
            vtype::RD_KAFKA_VTYPE_MSGFLAGS,
            2_i32,
            vtype::RD_KAFKA_VTYPE_VALUE,
            value.as_ptr(),
            value.len(),
            vtype::RD_KAFKA_VTYPE_HEADERS,
            headers,
            vtype::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(answer, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    producer.flush(SOON).unwrap();
}

/// Writes one record to partition 0 with these properties of the client. Blocks.
pub(crate) fn with(brokers: &str, properties: &[(&str, &str)], topic: &str, value: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (name, value) in properties {
        config.set(*name, *value);
    }
    let producer: BaseProducer = config.create().unwrap();
    let transaction = properties.iter().any(|(name, _)| *name == "transactional.id");
    if transaction {
        producer.init_transactions(SOON).unwrap();
        producer.begin_transaction().unwrap();
    }
    producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(value)).unwrap();
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(10));
    }
    if transaction {
        producer.commit_transaction(SOON).unwrap();
    }
}
