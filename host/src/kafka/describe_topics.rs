//! Describes topics, with their topic ids: a topic that was deleted and created again has another id.

#![allow(unsafe_code, reason = "rdkafka has no DescribeTopics, and its metadata has no topic ids")]

use std::{
    ffi::{CStr, CString},
    ptr::NonNull,
    time::Duration,
};

use anyhow::{Context, bail};
use rdkafka::{
    ClientContext,
    bindings::{
        RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT, rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new,
        rd_kafka_AdminOptions_set_request_timeout, rd_kafka_AdminOptions_t, rd_kafka_DescribeTopics,
        rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
        rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicCollection_t, rd_kafka_TopicDescription_error,
        rd_kafka_TopicDescription_name, rd_kafka_TopicDescription_partitions, rd_kafka_TopicDescription_t,
        rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
        rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t, rd_kafka_error_code, rd_kafka_error_string,
        rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy, rd_kafka_event_error,
        rd_kafka_event_error_string, rd_kafka_event_t, rd_kafka_event_type, rd_kafka_queue_destroy,
        rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_queue_t, rd_kafka_resp_err_t,
    },
    client::Client,
    types::RDKafkaErrorCode,
};
use uuid::Uuid;

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; none when the brokers are older than Kafka 2.8.
    pub id: Option<Uuid>,
    /// Number of its partitions.
    pub partitions: i32,
}

/// Something of librdkafka's that is destroyed with this value.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> anyhow::Result<Self> {
        NonNull::new(pointer).map(|pointer| Self(pointer, destroy)).context("librdkafka is out of memory")
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is valid until here, and `destroy` belongs to its type: see `Owned::new`'s
        // callers.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Describes those of `names` that exist. A topic that the brokers refuse to describe is an error of its own.
/// Blocks.
///
/// # Errors
/// The brokers do not answer in time.
pub(super) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    within: Duration,
) -> anyhow::Result<Vec<anyhow::Result<TopicDescription>>> {
    let event = ask(client, names, within)?;
    // SAFETY: the event is alive. Its type is checked before its result is read. The result and all that it
    // points at belong to the event.
    unsafe {
        if rd_kafka_event_error(event.as_ptr()) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            bail!("{}", CStr::from_ptr(rd_kafka_event_error_string(event.as_ptr())).to_string_lossy());
        }
        if rd_kafka_event_type(event.as_ptr()) != RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT {
            bail!("librdkafka gave another result");
        }
        let result = rd_kafka_event_DescribeTopics_result(event.as_ptr());
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut described = Vec::with_capacity(count);
        for index in 0..count {
            described.extend(description(*topics.add(index)).transpose());
        }
        Ok(described)
    }
}

/// Sends the request and waits for its event.
fn ask<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    within: Duration,
) -> anyhow::Result<Owned<rd_kafka_event_t>> {
    let within_ms = i32::try_from(within.as_millis()).context("the time-out is too long")?;
    let names: Vec<CString> =
        names.iter().map(|name| CString::new(name.as_str())).collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let rk = client.native_ptr();
    // SAFETY: the client outlives this call. `pointers` are strings that end with NUL, which librdkafka
    // copies. What is created here is destroyed when this function ends; the request keeps what it needs.
    unsafe {
        let queue: Owned<rd_kafka_queue_t> = Owned::new(rd_kafka_queue_new(rk), rd_kafka_queue_destroy)?;
        let topics: Owned<rd_kafka_TopicCollection_t> = Owned::new(
            rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            rd_kafka_TopicCollection_destroy,
        )?;
        let options: Owned<rd_kafka_AdminOptions_t> = Owned::new(
            rd_kafka_AdminOptions_new(rk, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd_kafka_AdminOptions_destroy,
        )?;
        let mut error = [0; 256];
        rd_kafka_AdminOptions_set_request_timeout(
            options.as_ptr(),
            within_ms,
            error.as_mut_ptr(),
            error.len(),
        );
        rd_kafka_DescribeTopics(rk, topics.as_ptr(), options.as_ptr(), queue.as_ptr());
        let event = rd_kafka_queue_poll(queue.as_ptr(), within_ms);
        let event = NonNull::new(event).context("the brokers did not answer in time")?;
        Ok(Owned(event, rd_kafka_event_destroy))
    }
}

/// None when the topic does not exist.
///
/// # Safety
/// `topic` must point at a description that is alive.
unsafe fn description(topic: *const rd_kafka_TopicDescription_t) -> anyhow::Result<Option<TopicDescription>> {
    // SAFETY: all of it belongs to the description.
    unsafe {
        let name = CStr::from_ptr(rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
        let error = rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            match RDKafkaErrorCode::from(rd_kafka_error_code(error)) {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    return Ok(None);
                }
                _ => bail!("{name}: {}", CStr::from_ptr(rd_kafka_error_string(error)).to_string_lossy()),
            }
        }
        let mut partitions = 0;
        rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = rd_kafka_TopicDescription_topic_id(topic);
        let id = (!id.is_null()).then(|| {
            Uuid::from_u64_pair(
                rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
                rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
            )
        });
        Ok(Some(TopicDescription {
            name,
            id: id.filter(|id| !id.is_nil()),
            partitions: i32::try_from(partitions).context("counting partitions")?,
        }))
    }
}
