//! Gives each item of a batch to its handler, in the batch's order. Consecutive items of one handler are
//! handled together.

use crate::{
    bindings::saga::plugin::{sagas, types::Failure},
    context::Context,
    definition::{Definition, Handler},
    host::Host,
    input::{Delivery, Outcome, Request, Response, Source},
    problem::Problem,
    unit::Unit,
};

/// Handles a batch of deliveries: one outcome each, in order. A delivery without a handler is rejected.
///
/// # Errors
/// The whole unit must be rolled back: a statement failed, or the host refused an effect.
pub fn deliveries(
    definition: &Definition,
    host: &dyn Host,
    batch: &[Delivery],
    sagas: Vec<sagas::Saga>,
) -> Result<Vec<Outcome>, Failure> {
    let context = Context::new(host, u32::try_from(batch.len()).unwrap_or(u32::MAX));
    let unit = Unit::new(&context, batch, sagas.into_iter().map(Into::into).collect());
    let handler_of = |delivery: &Delivery| match &delivery.source {
        Source::Kafka(position) => definition.of_topic(&position.topic),
        Source::Timer(name) => definition.of_timer(name),
        Source::Deadline(saga) => definition.of_saga(&saga.saga_type),
    };
    handle(unit, batch, handler_of, || Outcome::reject("this version of the plugin has no handler for it"))
}

/// Handles a batch of requests: one response each, in order.
///
/// # Errors
/// The whole unit must be rolled back: a statement failed, or the host refused an effect.
pub fn requests(
    definition: &Definition,
    host: &dyn Host,
    batch: &[Request],
) -> Result<Vec<Response>, Failure> {
    let context = Context::new(host, u32::try_from(batch.len()).unwrap_or(u32::MAX));
    let unit = Unit::new(&context, batch, Vec::new());
    handle(
        unit,
        batch,
        |request| definition.of_route(request.route),
        || Problem::not_found("no such route").into(),
    )
}

fn handle<S, A>(
    mut unit: Unit<'_, S, A>,
    batch: &[S],
    handler_of: impl Fn(&S) -> Option<Handler<S, A>>,
    unhandled: impl Fn() -> A,
) -> Result<Vec<A>, Failure> {
    let mut together: Option<(Handler<S, A>, Vec<u32>)> = None;
    for (item, place) in batch.iter().zip(0..) {
        match (handler_of(item), &mut together) {
            (None, _) => unit.answer(place, unhandled()),
            (Some(handler), Some((current, places))) if current.id == handler.id => places.push(place),
            (Some(handler), _) => {
                if let Some((before, places)) = together.replace((handler, vec![place])) {
                    (before.run)(&mut unit, &places)?;
                }
            }
        }
    }
    if let Some((last, places)) = together {
        (last.run)(&mut unit, &places)?;
    }
    unit.finish()
}
