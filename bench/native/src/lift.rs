//! From the plugin's types to the host's: what is handed to an import is copied, as out of a component's
//! memory; what the plugin returns is moved.

use saga_host::model::bindings::{
    exports::saga::plugin::{deliveries, requests},
    saga::plugin as host,
};
use saga_plugin::{Outcome, Response, SagaName, bindings::saga::plugin as sdk};

pub(crate) fn outcome(outcome: Outcome) -> deliveries::Outcome {
    match outcome {
        Outcome::Done => deliveries::Outcome::Done,
        Outcome::Ignored(reason) => deliveries::Outcome::Ignored(reason),
        Outcome::Retry(delay) => {
            deliveries::Outcome::Retry(deliveries::Delay { after_ms: delay.after_ms, reason: delay.reason })
        }
        Outcome::Reject(reason) => deliveries::Outcome::Reject(reason),
    }
}

pub(crate) fn response(response: Response) -> requests::Response {
    let saga = |SagaName { saga_type, key }| host::types::SagaName { saga_type, key };
    let header = |sdk::types::Header { name, value }| host::types::HeaderResult { name, value };
    requests::Response {
        status: response.status,
        headers: response.headers.into_iter().map(header).collect(),
        body: response.body,
        saga: response.saga.map(saga),
    }
}

pub(crate) fn failure(failure: sdk::types::Failure) -> host::types::Failure {
    let culprit =
        |sdk::types::Culprit { cause, code, message }| host::types::Culprit { cause, code, message };
    host::types::Failure {
        message: failure.message,
        culprits: failure.culprits.into_iter().map(culprit).collect(),
    }
}

pub(crate) fn level(level: sdk::context::Level) -> host::context::Level {
    match level {
        sdk::context::Level::Trace => host::context::Level::Trace,
        sdk::context::Level::Debug => host::context::Level::Debug,
        sdk::context::Level::Info => host::context::Level::Info,
        sdk::context::Level::Warn => host::context::Level::Warn,
        sdk::context::Level::Error => host::context::Level::Error,
    }
}

pub(crate) fn param(param: &sdk::postgres::Param) -> host::postgres::Param {
    use host::postgres::Param as Host;
    use sdk::postgres::Param;
    match param {
        Param::Null => Host::Null,
        Param::Boolean(value) => Host::Boolean(*value),
        Param::Integer(value) => Host::Integer(*value),
        Param::Float(value) => Host::Float(*value),
        Param::Text(value) => Host::Text(value.clone()),
        Param::Bytes(value) => Host::Bytes(value.clone()),
        Param::Uuid(value) => Host::Uuid(uuid(value)),
        Param::Timestamp(value) => Host::Timestamp(*value),
        Param::Date(value) => Host::Date(*value),
        Param::Numeric(value) => Host::Numeric(value.clone()),
        Param::Json(value) => Host::Json(value.clone()),
        Param::Many(value) => Host::Many(column(value)),
    }
}

fn uuid(uuid: &sdk::types::Uuid) -> host::types::Uuid {
    host::types::Uuid { hi: uuid.hi, lo: uuid.lo }
}

fn column(column: &sdk::postgres::Column) -> host::postgres::Column {
    use host::postgres::Values as Host;
    use sdk::postgres::Values;
    let values = match &column.values {
        Values::Booleans(list) => Host::Booleans(list.clone()),
        Values::Integers(list) => Host::Integers(list.clone()),
        Values::Floats(list) => Host::Floats(list.clone()),
        Values::Texts(list) => Host::Texts(list.clone()),
        Values::Bytes(list) => Host::Bytes(list.clone()),
        Values::Uuids(list) => Host::Uuids(list.iter().map(uuid).collect()),
        Values::Timestamps(list) => Host::Timestamps(list.clone()),
        Values::Dates(list) => Host::Dates(list.clone()),
        Values::Numerics(list) => Host::Numerics(list.clone()),
        Values::Jsons(list) => Host::Jsons(list.clone()),
    };
    host::postgres::Column { values, nulls: column.nulls.clone() }
}

pub(crate) fn outgoing(message: &sdk::kafka::Outgoing) -> host::kafka::Outgoing {
    let header = |header: &sdk::types::Header| host::types::HeaderResult {
        name: header.name.clone(),
        value: header.value.clone(),
    };
    host::kafka::Outgoing {
        cause: message.cause,
        topic: message.topic.clone(),
        key: message.key.clone(),
        event_type: message.event_type.clone(),
        content_type: message.content_type.clone(),
        headers: message.headers.iter().map(header).collect(),
        payload: message.payload.clone(),
    }
}

pub(crate) fn new_saga(saga: &sdk::sagas::NewSaga) -> host::sagas::NewSaga {
    host::sagas::NewSaga {
        cause: saga.cause,
        saga_type: saga.saga_type.clone(),
        key: saga.key.clone(),
        state: saga.state.clone(),
        data: saga.data.clone(),
        deadline: saga.deadline,
    }
}

pub(crate) fn transition(step: &sdk::sagas::Transition) -> host::sagas::Transition {
    host::sagas::Transition {
        cause: step.cause,
        saga_type: step.saga_type.clone(),
        key: step.key.clone(),
        expected_revision: step.expected_revision,
        event: step.event.clone(),
        state: step.state.clone(),
        data: step.data.clone(),
        status: status(&step.status),
    }
}

fn status(status: &sdk::sagas::Status) -> host::sagas::StatusResult {
    match status {
        sdk::sagas::Status::Until(at) => host::sagas::StatusResult::Until(*at),
        sdk::sagas::Status::Finished(finish) => {
            host::sagas::StatusResult::Finished(host::sagas::FinishResult {
                ending: match finish.ending {
                    sdk::sagas::Ending::Completed => host::sagas::Ending::Completed,
                    sdk::sagas::Ending::Compensated => host::sagas::Ending::Compensated,
                    sdk::sagas::Ending::Failed => host::sagas::Ending::Failed,
                },
                answer: finish.answer.clone(),
            })
        }
    }
}

pub(crate) fn timer(timer: &sdk::timers::Timer) -> host::timers::Timer {
    host::timers::Timer {
        cause: timer.cause,
        name: timer.name.clone(),
        due: timer.due,
        correlation: timer.correlation.clone(),
        payload: timer.payload.clone(),
    }
}
