//! What a unit's deliveries need from the database, and which of them the database no longer has.

use crate::{
    model::delivery::Origin,
    unit::{
        admit::{Admission, Disposition, Work},
        open::{Opened, Opening},
    },
};

/// What the admitted deliveries need from the database.
pub(super) fn opening(admission: &Admission, work: &[Work]) -> Opening {
    let mut opening = Opening { claim_advances: admission.claim_advances.clone(), ..Opening::default() };
    for (item, disposition) in work.iter().zip(&admission.dispositions) {
        let delivery = &item.delivery;
        if *disposition == Disposition::Drop {
            continue;
        }
        match (&delivery.origin, delivery.parked_id) {
            (_, Some(id)) => opening.parked_ids.push(id),
            (Origin::Timer { name }, None) => opening.timer_names.push(name.clone()),
            (_, None) => opening.foreign_ids.extend(delivery.foreign_id.clone()),
        }
        if *disposition == Disposition::Run || matches!(delivery.origin, Origin::Deadline { .. }) {
            opening.saga_keys.extend(delivery.saga_key().map(str::to_owned));
        }
    }
    opening.saga_keys.sort_unstable();
    opening.saga_keys.dedup();
    opening
}

/// Drops what another host, a person or a faster reply has handled meanwhile.
pub(super) fn drop_handled_elsewhere(admission: &mut Admission, work: &[Work], opened: &Opened) {
    for (disposition, item) in admission.dispositions.iter_mut().zip(work) {
        let delivery = &item.delivery;
        let still_there = match (&delivery.origin, delivery.parked_id) {
            (_, Some(id)) => opened.parked_ids.contains(&id),
            // A timer that was set again has another payload.
            (Origin::Timer { name }, None) => opened.timers.get(name) == Some(&delivery.timestamp_us),
            (Origin::Deadline { saga_type, key, revision }, None) => opened
                .sagas
                .iter()
                .any(|saga| saga.saga_type == *saga_type && saga.key == *key && saga.revision == *revision),
            (Origin::Kafka { .. }, None) => {
                delivery.foreign_id.as_ref().is_none_or(|id| opened.new_foreign_ids.contains(id))
            }
        };
        if !still_there {
            *disposition = Disposition::Drop;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Admission, Disposition, Opened, Origin, Work, drop_handled_elsewhere};
    use crate::model::delivery::Delivery;

    #[test]
    fn a_timer_that_was_set_again_is_dropped() {
        let work = ["same", "again", "gone"].map(|name| Work {
            delivery: Delivery::bare(Origin::Timer { name: name.into() }, 7),
            parking: None,
        });
        let timers = HashMap::from([("same".into(), 7), ("again".into(), 9)]);
        let mut admission = Admission::decide(&work, &HashMap::new());
        drop_handled_elsewhere(&mut admission, &work, &Opened { timers, ..Opened::default() });
        assert_eq!(admission.dispositions, [Disposition::Run, Disposition::Drop, Disposition::Drop]);
    }
}
