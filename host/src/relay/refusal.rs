//! What an error of Kafka says about a record.
//!
//! Kafka judges a batch, so an error says nothing yet about any one record of it. Only the answer to a record
//! that was sent alone is judged as [`Refusal`] says.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Kafka never accepts this record as it is: a person must change the record or the topic.
    OfRecord,
    /// Kafka does not accept its timestamp: its clock differs, or the record has waited for too long.
    OfTimestamp,
    /// Nothing is wrong with the record: retried until Kafka accepts it.
    Passing,
    /// The Kafka client has given up, and has not sent this record.
    NotSent,
}

impl Refusal {
    /// An error that is not known here is passing: no record is parked for it.
    pub(super) fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(
                Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidDifferentRecord
                | Code::PolicyViolation
                | Code::InvalidTopic,
            ) => Self::OfRecord,
            Some(Code::InvalidTimestamp) => Self::OfTimestamp,
            Some(
                Code::PurgeQueue
                | Code::PurgeInflight
                | Code::Fatal
                | Code::GaplessGuarantee
                | Code::Inconsistent
                | Code::Retry
                | Code::QueueFull,
            ) => Self::NotSent,
            _ => Self::Passing,
        }
    }
}

/// What the error says, and what to do where its text does not show that.
pub(super) fn reason_of(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(Code::UnknownPartition) => format!(
            "{error}: the topic has fewer partitions than it had when the record was written, add partitions"
        ),
        _ => error.to_string(),
    }
}

/// Whether a batch was too large, perhaps none of its records.
pub(super) fn is_too_large(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge))
}

#[cfg(test)]
mod tests {
    use super::{Code, KafkaError, Refusal};

    #[test]
    fn only_what_a_person_must_change_is_of_the_record() {
        for (code, expected) in [
            (Code::MessageSizeTooLarge, Refusal::OfRecord),
            (Code::InvalidRecord, Refusal::OfRecord),
            (Code::InvalidTimestamp, Refusal::OfTimestamp),
            (Code::TopicAuthorizationFailed, Refusal::Passing),
            (Code::ClusterAuthorizationFailed, Refusal::Passing),
            (Code::UnknownTopicOrPartition, Refusal::Passing),
            (Code::UnknownTopic, Refusal::Passing),
            (Code::UnknownPartition, Refusal::Passing),
            (Code::NotLeaderForPartition, Refusal::Passing),
            (Code::NotEnoughReplicas, Refusal::Passing),
            (Code::MessageTimedOut, Refusal::Passing),
            (Code::Unknown, Refusal::Passing),
            (Code::PurgeQueue, Refusal::NotSent),
            (Code::Fatal, Refusal::NotSent),
        ] {
            assert_eq!(Refusal::of(&KafkaError::MessageProduction(code)), expected, "{code:?}");
        }
    }
}
