//! Records as the outbox holds them: every byte that Kafka will get is fixed before the commit.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One record to be sent, with its partition and headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Chosen before the commit, so that a repeat goes where the first one went.
    pub partition: i32,
    /// Milliseconds since 1970: what consumers compare by, so it is fixed with the rest.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// None is a tombstone.
    pub payload: Option<Bytes>,
    /// In order; CloudEvents and trace headers included. What all records of a unit have is shared.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
}

/// The header with the CloudEvents `id`.
pub const MESSAGE_ID: &str = "ce_id";

impl Record {
    /// Its CloudEvents `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header(MESSAGE_ID)
    }

    /// The plugin that asked for it, from `ce_source`: `/saga-host/DATABASE/PLUGIN`.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.header("ce_source").rsplit('/').next().unwrap_or_default()
    }

    /// Empty when there is none.
    fn header(&self, name: &str) -> &str {
        let value = self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
        std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
    }

    /// Bytes that it occupies in the producer, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        64 + headers + self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// The body of an outbox row: postcard in an LZ4 block. The records of a unit repeat most of their headers.
///
/// # Errors
/// Never for records that fit in memory.
pub fn encode(records: &[Record]) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(records).map(|plain| lz4_flex::compress_prepend_size(&plain))
}

/// Reads the body of an outbox row.
///
/// # Errors
/// When the row was written by something else.
pub fn decode(body: &[u8]) -> anyhow::Result<Vec<Record>> {
    Ok(postcard::from_bytes(&lz4_flex::decompress_size_prepended(body)?)?)
}

/// Kafka's own seed of murmur2.
const MURMUR2_SEED: u32 = 0x9747_b28c;

/// The partition of a key, as the Java client's default partitioner has it.
/// <https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/clients/producer/internals/BuiltInPartitioner.java>
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2::murmur2(key, MURMUR2_SEED) & 0x7fff_ffff;
    i32::try_from(positive).unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may panic")]
mod tests {
    use super::{MURMUR2_SEED, Record, decode, encode, partition_of};

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_that_of_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2::murmur2(key.as_bytes(), MURMUR2_SEED).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of(b"21", 6), (-973_932_308_i32 & 0x7fff_ffff) % 6);
    }

    #[test]
    fn a_body_is_read_back_as_it_was_written() {
        let records = vec![
            Record {
                topic: "t".into(),
                partition: 3,
                timestamp_ms: 0,
                key: None,
                payload: None,
                headers: vec![],
            },
            Record {
                topic: "u".into(),
                partition: 0,
                timestamp_ms: 1,
                key: Some(b"k"[..].into()),
                payload: Some(b"{}"[..].into()),
                headers: vec![("ce_id".into(), b"d:1:2:3:4"[..].into())],
            },
        ];
        let body = encode(&records).expect("encodes");
        assert_eq!(decode(&body).expect("decodes"), records);
        assert!(decode(&body[..body.len() - 1]).is_err());
    }
}
