//! Records in the outbox. Every byte that Kafka gets is fixed before the commit.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    format::{Format, Unreadable},
    identity::{Identity, Sequence},
};

/// One record to send, with its partition and headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Topic name.
    pub topic: String,
    /// Partition, chosen before the commit, so that a record that is sent again goes to the same one.
    pub partition: i32,
    /// Timestamp, milliseconds since 1970. Consumers may compare it, so it is the same when the record is
    /// sent again.
    pub timestamp_ms: i64,
    /// None for a record without key.
    pub key: Option<Bytes>,
    /// None for a tombstone.
    pub payload: Option<Bytes>,
    /// (name, value) in order, with the CloudEvents and trace headers. Values that all records of a unit have
    /// are shared.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
}

/// The header with the CloudEvents `id`.
pub const MESSAGE_ID: &str = "ce_id";

impl Record {
    /// The CloudEvents `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header(MESSAGE_ID)
    }

    /// The identity of the database that publishes it, from its id; none for a record from before it had one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Identity::parse(self.id().split(':').next()?)
    }

    /// Where it stands among all records, as the one at `index` in the outbox row `seq`. It depends on nothing
    /// else than the row, so a record that is sent again has the same bytes. None for a record whose id has no
    /// identity yet, of an earlier build.
    #[must_use]
    pub fn sequence(&self, seq: i64, index: usize) -> Option<Sequence> {
        self.identity().map(|identity| Sequence::new(identity, seq, index))
    }

    /// Its headers as Kafka gets them: with `ce_sequence`, which is known only when the number of the row is.
    pub fn kafka_headers<'r>(
        &'r self,
        sequence: Option<&'r Sequence>,
    ) -> impl Iterator<Item = (&'r str, &'r [u8])> {
        let headers = self.headers.iter().map(|(name, value)| (&**name, &**value));
        headers.chain(sequence.map(|sequence| ("ce_sequence", sequence.as_str().as_bytes())))
    }

    /// The plugin that published it, from the header `ce_source`: `/saga-host/DATABASE/PLUGIN`.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.header("ce_source").rsplit('/').next().unwrap_or_default()
    }

    /// The value of a header, empty when it is missing.
    fn header(&self, name: &str) -> &str {
        let value = self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
        std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
    }

    /// Approximate bytes that the record occupies in the Kafka client.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        64 + headers + self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// How many bytes one byte of an LZ4 block can become.
/// <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>
const LZ4_RATIO_MAX: usize = 255;

/// Encodes the body of an outbox row in the format of the release before, which every host reads.
///
/// # Errors
/// Never for records that fit in memory.
pub fn encode(records: &[Record]) -> Result<Vec<u8>, postcard::Error> {
    encode_as(Format::previous(), records)
}

/// Encodes the body of an outbox row: postcard, compressed as an LZ4 block, since the records of a unit
/// repeat most of their headers.
///
/// # Errors
/// Never for records that fit in memory.
pub fn encode_as(format: Format, records: &[Record]) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(records).map(|plain| format.body(lz4_flex::compress_prepend_size(&plain)))
}

/// Decodes the body of an outbox row.
///
/// # Errors
/// A later build has written it, or it is damaged.
pub fn decode(body: &[u8]) -> Result<Vec<Record>, Unreadable> {
    let damaged = |error: &dyn std::fmt::Display| Unreadable::Damaged(error.to_string());
    let content = Format::content(body)?;
    // The block says how long it becomes. A damaged one must not make the host allocate that much.
    let (length, block) = lz4_flex::block::uncompressed_size(content).map_err(|error| damaged(&error))?;
    if length > block.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(damaged(&format_args!("{} bytes cannot become {length}", block.len())));
    }
    let plain = lz4_flex::decompress(block, length).map_err(|error| damaged(&error))?;
    postcard::from_bytes(&plain).map_err(|error| damaged(&error))
}

/// The seed of Kafka's murmur2.
const MURMUR2_SEED: u32 = 0x9747_b28c;

/// The partition of a key, the same as that of the Java client's default partitioner.
/// <https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/clients/producer/internals/BuiltInPartitioner.java>
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2::murmur2(key, MURMUR2_SEED) & 0x7fff_ffff;
    i32::try_from(positive).unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may panic")]
mod tests {
    use super::{MURMUR2_SEED, Record, decode, encode, encode_as, partition_of};
    use crate::model::format::Format;

    /// The test vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
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
    fn a_body_decodes_to_what_was_encoded() {
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
        for format in [Format::previous(), Format::newest()] {
            let body = encode_as(format, &records).expect("encodes");
            assert_eq!(decode(&body).expect("decodes"), records);
            assert!(decode(&body[..body.len() - 1]).is_err());
        }
        assert_eq!(encode(&records).ok(), encode_as(Format::previous(), &records).ok());
    }

    /// Databases hold bodies of released builds. A change of the encoding is a new format.
    #[test]
    fn the_encoding_of_a_format_never_changes() {
        let record = Record {
            topic: "t".into(),
            partition: 3,
            timestamp_ms: 5,
            key: Some(b"k"[..].into()),
            payload: None,
            headers: vec![("a".into(), b"b"[..].into())],
        };
        let content = "0e000000e0010174060a01016b000101610162";
        for (format, header) in [(Format::previous(), ""), (Format::newest(), "ffffffff01")] {
            let body = hex::encode(encode_as(format, std::slice::from_ref(&record)).expect("encodes"));
            assert_eq!(body, format!("{header}{content}"));
        }
    }
}
