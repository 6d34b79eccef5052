//! From the host's types to the plugin's: the batch is copied, as into a component's memory; what an import
//! returns is moved.

use saga_host::model::bindings::{
    exports::saga::plugin::{deliveries, requests},
    saga::plugin as host,
};
use saga_plugin::{
    Delivery, Request, Source,
    bindings::{
        exports::saga::plugin::deliveries::{Position, SagaRef},
        saga::plugin as sdk,
    },
};

pub(crate) fn delivery(delivery: &deliveries::Delivery<'_>) -> Delivery {
    Delivery {
        id: delivery.id.to_owned(),
        source: source(&delivery.source),
        correlation: delivery.correlation.map(str::to_owned),
        saga: delivery.saga,
        event_type: delivery.event_type.to_owned(),
        key: delivery.key.map(<[u8]>::to_vec),
        headers: delivery.headers.iter().map(header).collect(),
        payload: delivery.payload.map(<[u8]>::to_vec),
        timestamp: delivery.timestamp,
        attempt: delivery.attempt,
    }
}

fn source(source: &deliveries::Source<'_>) -> Source {
    match source {
        deliveries::Source::Kafka(position) => Source::Kafka(Position {
            topic: position.topic.to_owned(),
            partition: position.partition,
            offset: position.offset,
        }),
        deliveries::Source::Timer(name) => Source::Timer((*name).to_owned()),
        deliveries::Source::Deadline(saga) => Source::Deadline(SagaRef {
            saga_type: saga.saga_type.to_owned(),
            key: saga.key.to_owned(),
            revision: saga.revision,
        }),
    }
}

fn header(header: &host::types::HeaderParam<'_>) -> sdk::types::Header {
    sdk::types::Header { name: header.name.to_owned(), value: header.value.to_vec() }
}

pub(crate) fn saga(saga: &host::sagas::SagaParam<'_>) -> sdk::sagas::Saga {
    sdk::sagas::Saga {
        saga_type: saga.saga_type.to_owned(),
        key: saga.key.to_owned(),
        revision: saga.revision,
        state: saga.state.to_owned(),
        data: saga.data.to_owned(),
        status: status(&saga.status),
        started_at: saga.started_at,
    }
}

fn status(status: &host::sagas::StatusParam<'_>) -> sdk::sagas::Status {
    match status {
        host::sagas::StatusParam::Until(at) => sdk::sagas::Status::Until(*at),
        host::sagas::StatusParam::Finished(finish) => sdk::sagas::Status::Finished(sdk::sagas::Finish {
            ending: match finish.ending {
                host::sagas::Ending::Completed => sdk::sagas::Ending::Completed,
                host::sagas::Ending::Compensated => sdk::sagas::Ending::Compensated,
                host::sagas::Ending::Failed => sdk::sagas::Ending::Failed,
            },
            answer: finish.answer.map(str::to_owned),
        }),
    }
}

pub(crate) fn request(request: &requests::Request<'_>) -> Request {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Request {
        id: request.id.to_owned(),
        route: request.route,
        params: request.params.iter().map(|param| (*param).to_owned()).collect(),
        query: request.query.iter().map(pair).collect(),
        headers: request.headers.iter().map(header).collect(),
        body: request.body.to_vec(),
    }
}

pub(crate) fn uuid(uuid: host::types::Uuid) -> sdk::types::Uuid {
    sdk::types::Uuid { hi: uuid.hi, lo: uuid.lo }
}

pub(crate) fn table(table: host::postgres::Table) -> sdk::postgres::Table {
    let columns = table.columns.into_iter().map(column).collect();
    sdk::postgres::Table { rows: table.rows, names: table.names, columns }
}

fn column(column: host::postgres::Column) -> sdk::postgres::Column {
    use host::postgres::Values as Host;
    use sdk::postgres::Values;
    let values = match column.values {
        Host::Booleans(list) => Values::Booleans(list),
        Host::Integers(list) => Values::Integers(list),
        Host::Floats(list) => Values::Floats(list),
        Host::Texts(list) => Values::Texts(list),
        Host::Bytes(list) => Values::Bytes(list),
        Host::Uuids(list) => Values::Uuids(list.into_iter().map(uuid).collect()),
        Host::Timestamps(list) => Values::Timestamps(list),
        Host::Dates(list) => Values::Dates(list),
        Host::Numerics(list) => Values::Numerics(list),
        Host::Jsons(list) => Values::Jsons(list),
    };
    sdk::postgres::Column { values, nulls: column.nulls }
}

pub(crate) fn sql_error(error: host::postgres::SqlError) -> sdk::postgres::SqlError {
    sdk::postgres::SqlError {
        sqlstate: error.sqlstate,
        message: error.message,
        detail: error.detail,
        constraint: error.constraint,
        position: error.position,
    }
}

pub(crate) fn refusal(refusal: host::types::Refusal) -> sdk::types::Refusal {
    sdk::types::Refusal { code: refusal.code, message: refusal.message, cause: refusal.cause }
}
