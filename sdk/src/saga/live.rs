//! The sagas of a batch, as its deliveries change them one after the other.

use crate::{
    bindings::saga::plugin::sagas::{Saga, Status},
    input::{Delivery, Source},
};

/// A saga as the last delivery has left it.
#[derive(Debug)]
pub(crate) struct LiveSaga {
    pub(crate) saga_type: String,
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) state: String,
    pub(crate) data: String,
    /// Its deadline, microseconds since 1970.
    pub(crate) deadline: i64,
    pub(crate) ended: bool,
}

impl From<Saga> for LiveSaga {
    fn from(saga: Saga) -> Self {
        Self {
            saga_type: saga.saga_type,
            key: saga.key,
            revision: saga.revision,
            state: saga.state,
            data: saga.data,
            deadline: if let Status::Until(deadline) = saga.status { deadline } else { 0 },
            ended: matches!(saga.status, Status::Finished(_)),
        }
    }
}

/// The place in `sagas` of the saga that a delivery belongs to.
pub(crate) fn saga_of(sagas: &[LiveSaga], delivery: &Delivery) -> Option<usize> {
    if let Source::Deadline(of) = &delivery.source {
        return sagas.iter().position(|saga| saga.saga_type == of.saga_type && saga.key == of.key);
    }
    usize::try_from(delivery.saga?).ok().filter(|place| *place < sagas.len())
}
