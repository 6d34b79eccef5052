//! What a burst of records shows: how far each partition is read, and who has written to it.

use crate::{
    claims::partitions::TopicPartition,
    model::{
        delivery::{Delivery, Origin},
        identity::Identity,
    },
};

/// How far a burst of records reaches in one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadUpTo {
    pub(super) place: TopicPartition,
    pub(super) claim_epoch: i64,
    pub(super) next_offset: i64,
    /// Each database that has written to it, none for writers that are no saga-host, with the offset of its
    /// last record.
    pub(super) writers: Vec<(Option<Identity>, i64)>,
}

impl ReadUpTo {
    /// One for each partition of a burst.
    pub(super) fn of(burst: &[(Delivery, usize)]) -> Vec<Self> {
        let mut read: Vec<Self> = Vec::new();
        for (delivery, _) in burst {
            let Origin::Kafka { topic, partition, offset } = &delivery.origin else { continue };
            let writer = delivery.mark.as_ref().and_then(|mark| mark.identity());
            // Records of one partition come in a row.
            let known = read.iter_mut().rfind(|known| known.place.1 == *partition && known.place.0 == *topic);
            let Some(known) = known else {
                read.push(Self {
                    place: (topic.clone(), *partition),
                    claim_epoch: delivery.claim_epoch,
                    next_offset: offset + 1,
                    writers: vec![(writer, *offset)],
                });
                continue;
            };
            (known.claim_epoch, known.next_offset) = (delivery.claim_epoch, offset + 1);
            match known.writers.iter_mut().find(|(of, _)| *of == writer) {
                Some((_, last)) => *last = *offset,
                None => known.writers.push((writer, *offset)),
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::ReadUpTo;
    use crate::model::{
        dedup::DedupMark,
        delivery::{Delivery, Origin},
    };

    #[test]
    fn a_burst_shows_how_far_each_partition_is_read_and_who_has_written_to_it() {
        let read = |partition, offset, id: Option<&str>| {
            let origin = Origin::Kafka { topic: "t".into(), partition, offset };
            let mark = id.and_then(|id| DedupMark::of_record(b"/saga-host/d/p", id));
            (Delivery { claim_epoch: 7, mark, ..Delivery::bare(origin, 0) }, 1)
        };
        let ours = Some("6921f3c000c0ffee:2:7:17:3");
        let burst = [read(0, 4, ours), read(0, 5, None), read(0, 6, ours), read(1, 9, ours)];
        let up_to: Vec<_> = ReadUpTo::of(&burst)
            .into_iter()
            .map(|read| {
                let writers: Vec<_> =
                    read.writers.iter().map(|(of, last)| (of.map(|of| of.to_string()), *last)).collect();
                (read.place.1, read.claim_epoch, read.next_offset, writers)
            })
            .collect();
        let of_ours = Some("6921f3c000c0ffee".to_owned());
        assert_eq!(up_to, [(0, 7, 7, vec![(of_ours.clone(), 6), (None, 5)]), (1, 7, 10, vec![(of_ours, 9)])]);
    }
}
