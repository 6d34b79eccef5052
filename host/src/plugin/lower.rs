//! A batch as the guest's world has it: borrowed, so that nothing but the small records around the
//! bytes is built before it is copied into the guest's memory.

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
    outcome::Outcome,
    request::{Request, Response},
    saga::LiveSaga,
};

/// Headers of a whole batch in one list; each delivery has a part of it.
pub(super) struct Headers<'a> {
    all: Vec<HeaderParam<'a>>,
    ends: Vec<usize>,
}

impl<'a> Headers<'a> {
    pub(super) fn of(lists: impl Iterator<Item = &'a Vec<(String, Vec<u8>)>>) -> Self {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            all.extend(list.iter().map(|(name, value)| HeaderParam { name, value }));
            ends.push(all.len());
        }
        Self { all, ends }
    }

    fn parts(&self) -> impl Iterator<Item = &[HeaderParam<'a>]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.all.get(begin..*end).unwrap_or_default())
    }
}

/// The sagas of a batch by key, to tell each delivery its own: of several of a key, the one whose type sorts
/// first.
pub(crate) struct SagaIndex<'a>(HashMap<&'a str, u32>, &'a [LiveSaga]);

impl<'a> SagaIndex<'a> {
    pub(crate) fn of(sagas: &'a [LiveSaga]) -> Self {
        let mut places = HashMap::with_capacity(sagas.len());
        for (place, saga) in (0..).zip(sagas) {
            let first = places.entry(saga.key.as_str()).or_insert(place);
            if sagas[*first as usize].saga_type > saga.saga_type {
                *first = place;
            }
        }
        Self(places, sagas)
    }

    /// The place of a delivery's saga.
    pub(crate) fn find(&self, delivery: &Delivery) -> Option<u32> {
        let wanted = match &delivery.origin {
            Origin::Deadline { saga_type, key, .. } => (Some(saga_type), key),
            _ => (None, delivery.correlation.as_ref()?),
        };
        let place = *self.0.get(wanted.1.as_str())?;
        let of_type = |saga: &LiveSaga| wanted.0.is_none_or(|saga_type| saga.saga_type == *saga_type);
        if self.1.get(place as usize).is_some_and(of_type) {
            return Some(place);
        }
        let other = self.1.iter().position(|saga| saga.key == *wanted.1 && of_type(saga))?;
        u32::try_from(other).ok()
    }
}

pub(super) fn deliveries<'a>(
    batch: &'a [&'a Delivery],
    headers: &'a Headers<'a>,
    places: &SagaIndex<'_>,
) -> Vec<wit::Delivery<'a>> {
    batch
        .iter()
        .zip(headers.parts())
        .map(|(delivery, headers)| wit::Delivery {
            id: &delivery.id,
            source: source(&delivery.origin),
            correlation: delivery.correlation.as_deref(),
            saga: places.find(delivery),
            event_type: &delivery.event_type,
            key: delivery.key.as_deref(),
            headers,
            payload: delivery.payload.as_deref(),
            timestamp: delivery.timestamp_us,
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
            began: saga.began_us,
        })
        .collect()
}

/// What a request's lists are borrowed from.
pub(super) struct RequestParts<'a> {
    params: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
    headers: Vec<HeaderParam<'a>>,
}

impl<'a> RequestParts<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
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

pub(super) fn outcome(outcome: wit::Outcome) -> Outcome {
    match outcome {
        wit::Outcome::Done => Outcome::Done,
        wit::Outcome::Ignored(reason) => Outcome::Ignored(reason),
        wit::Outcome::Retry(delay) => Outcome::Retry { after_ms: delay.after_ms, reason: delay.reason },
        wit::Outcome::Reject(reason) => Outcome::Reject(reason),
    }
}

pub(super) fn response(response: requests::Response) -> Response {
    Response {
        status: response.status,
        headers: response.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        body: response.body,
        saga: response.saga.map(|saga| (saga.saga_type, saga.key)),
    }
}
