//! The headers of a record as Kafka has them. The accessor of rdkafka panics when a header's name is not
//! UTF-8, and shows headers that cannot be decoded as none.

#![allow(unsafe_code, reason = "rdkafka has no accessor that returns a header's name as bytes")]

use std::{ffi::CStr, marker::PhantomData, ptr};

use rdkafka::{
    bindings::{rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_headers, rd_kafka_resp_err_t},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};

/// The headers of one record, in their order: name and value, none for a null value. A name ends at its first
/// NUL byte.
#[derive(Debug)]
pub struct RawHeaders<'m> {
    headers: *const rd_kafka_headers_t,
    next: usize,
    record: PhantomData<&'m ()>,
}

/// The headers of a record.
///
/// # Errors
/// They cannot be decoded.
pub fn raw_headers<'m>(record: &'m BorrowedMessage<'_>) -> Result<RawHeaders<'m>, RDKafkaErrorCode> {
    let mut headers = ptr::null_mut();
    // SAFETY: `record` keeps the message alive. librdkafka decodes the headers at the first call and frees
    // them with the message.
    let answer = unsafe { rd_kafka_message_headers(record.ptr(), &raw mut headers) };
    match answer {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR | rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => {
            Ok(RawHeaders { headers, next: 0, record: PhantomData })
        }
        other => Err(other.into()),
    }
}

impl<'m> Iterator for RawHeaders<'m> {
    type Item = (&'m [u8], Option<&'m [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut value_bytes) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live as long as the message, which 'm borrows. librdkafka answers an index
        // behind the last header with an error.
        let answer = unsafe {
            rd_kafka_header_get_all(
                self.headers,
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut value_bytes,
            )
        };
        if answer != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        self.next += 1;
        // SAFETY: librdkafka ends names with NUL, and `value` points at `value_bytes` bytes unless it is null.
        // Both belong to the headers.
        unsafe {
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), value_bytes));
            Some((CStr::from_ptr(name).to_bytes(), value))
        }
    }
}
