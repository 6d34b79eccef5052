//! Lowers a batch: host values → WIT values. These borrow the batch's bytes, which are copied only once, into
//! the guest's memory.

use std::collections::HashMap;

use crate::model::{
    bindings::{
        exports::saga::plugin::{deliveries as wit, requests},
        saga::plugin::{
            sagas::{SagaParam, StatusParam},
            types::HeaderParam,
        },
    },
    delivery::{Delivery, Origin},
    identity::Sequence,
    request::Request,
    saga::LiveSaga,
};

/// The headers of a whole batch in one list, of which each delivery borrows a range.
pub(super) struct Headers<'a> {
    all: Vec<HeaderParam<'a>>,
    ends: Vec<usize>,
}

impl<'a> Headers<'a> {
    pub(super) fn new(lists: impl Iterator<Item = &'a Vec<(String, Vec<u8>)>>) -> Self {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            all.extend(list.iter().map(|(name, value)| HeaderParam { name, value }));
            ends.push(all.len());
        }
        Self { all, ends }
    }

    /// The headers of each delivery.
    fn ranges(&self) -> impl Iterator<Item = &[HeaderParam<'a>]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.all.get(start..*end).unwrap_or_default())
    }
}

/// Finds the saga of each delivery in the sagas of its batch. Where several sagas have one key, a record or
/// timer gets the one whose type sorts first.
pub(crate) struct SagaIndex<'a> {
    sagas: &'a [LiveSaga],
    by_key: HashMap<&'a str, u32>,
}

impl<'a> SagaIndex<'a> {
    pub(crate) fn of(sagas: &'a [LiveSaga]) -> Self {
        let mut by_key = HashMap::with_capacity(sagas.len());
        for (index, saga) in (0..).zip(sagas) {
            let first = by_key.entry(saga.key.as_str()).or_insert(index);
            if sagas[*first as usize].saga_type > saga.saga_type {
                *first = index;
            }
        }
        Self { sagas, by_key }
    }

    /// The index of a delivery's saga.
    pub(crate) fn find(&self, delivery: &Delivery) -> Option<u32> {
        let (saga_type, key) = match &delivery.origin {
            Origin::Deadline { saga_type, key, .. } => (Some(saga_type), key),
            _ => (None, delivery.correlation.as_ref()?),
        };
        let first = *self.by_key.get(key.as_str())?;
        let has_type = |saga: &LiveSaga| saga_type.is_none_or(|saga_type| saga.saga_type == *saga_type);
        if self.sagas.get(first as usize).is_some_and(has_type) {
            return Some(first);
        }
        let other = self.sagas.iter().position(|saga| saga.key == *key && has_type(saga))?;
        u32::try_from(other).ok()
    }
}

pub(super) fn deliveries<'a>(
    batch: &'a [&'a Delivery],
    headers: &'a Headers<'a>,
    sagas: &SagaIndex<'_>,
) -> Vec<wit::Delivery<'a>> {
    batch
        .iter()
        .zip(headers.ranges())
        .map(|(delivery, headers)| wit::Delivery {
            id: &delivery.id,
            source: source(&delivery.origin),
            correlation: delivery.correlation.as_deref(),
            saga: sagas.find(delivery),
            event_type: &delivery.event_type,
            key: delivery.key.as_deref(),
            headers,
            payload: delivery.payload.as_deref(),
            timestamp: delivery.timestamp_us,
            sequence: delivery.sequence.as_ref().map(Sequence::as_str),
            attempt: delivery.attempt,
        })
        .collect()
}

fn source(origin: &Origin) -> wit::Source<'_> {
    match origin {
        Origin::Kafka { topic, partition, offset } => {
            wit::Source::Kafka(wit::Position { topic, partition: *partition, offset: *offset })
        }
        Origin::Timer { name } => wit::Source::Timer(name),
        Origin::Deadline { saga_type, key, revision } => {
            let revision = u64::try_from(*revision).unwrap_or(0);
            wit::Source::Deadline(wit::SagaRef { saga_type, key, revision })
        }
    }
}

pub(super) fn sagas(sagas: &[LiveSaga]) -> Vec<SagaParam<'_>> {
    sagas
        .iter()
        .map(|saga| SagaParam {
            saga_type: &saga.saga_type,
            key: &saga.key,
            revision: u64::try_from(saga.revision).unwrap_or(0),
            state: &saga.state,
            data: &saga.data,
            status: StatusParam::Until(saga.next_at_us),
            started_at: saga.started_at_us,
        })
        .collect()
}

/// The lists of one request that its WIT value borrows.
pub(super) struct RequestParts<'a> {
    params: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
    headers: Vec<HeaderParam<'a>>,
}

impl<'a> RequestParts<'a> {
    pub(super) fn new(request: &'a Request) -> Self {
        Self {
            params: request.params.iter().map(String::as_str).collect(),
            query: request.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            headers: request.headers.iter().map(|(name, value)| HeaderParam { name, value }).collect(),
        }
    }
}

pub(super) fn requests<'a>(
    batch: &'a [&'a Request],
    parts: &'a [RequestParts<'a>],
) -> Vec<requests::Request<'a>> {
    batch
        .iter()
        .zip(parts)
        .map(|(request, parts)| requests::Request {
            id: &request.id,
            route: request.route,
            params: &parts.params,
            query: &parts.query,
            headers: &parts.headers,
            body: &request.body,
        })
        .collect()
}
