//! Takes trips (`POST /trips`) and runs the saga of each: a hotel, then a flight. A step without an answer in
//! time is undone like a done one.

use std::collections::BTreeSet;

use saga_plugin::{
    Added, Body, Claims, Context, Correlation, Db, DbResult, Definition, Effects, Ending, Event, Finished,
    Fold, Migration, OnDeadline, Response, Saga, Step, Uuid, Verdict, keys, many,
};
use serde::{Deserialize, Serialize};

/// Asks the participant to book or cancel.
const REQUESTS: &str = "trip-requests-topic";
/// What the participant did.
const REPLIES: &str = "trip-replies-topic";
const DEADLINE_S: u64 = 1;

fn define() -> Definition {
    let tables = Migration {
        name: "0001_trip.sql".to_owned(),
        sql: "CREATE TABLE public.trip (trip_id uuid PRIMARY KEY, ending text)".to_owned(),
    };
    Definition::new("trip", env!("CARGO_PKG_VERSION"))
        .http::<Place>("POST", "/trips")
        .saga::<TripSaga>()
        .replies::<TripSaga>(REPLIES, Correlation::Json("/tripId"))
        .publishes(&[REQUESTS])
        .migrations([tables])
}

saga_plugin::plugin!(define);

/// A trip: the body of a request, and the data of its saga.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trip {
    trip_id: Uuid,
    /// Whether its flight is full.
    full: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    trip_id: Uuid,
    step: &'static str,
    cancel: bool,
    full: bool,
}

fn ask(trip: &Trip, effects: &mut Effects<'_>, step: &'static str, cancel: bool) {
    let Trip { trip_id, full } = *trip;
    let full = full && step == "flight";
    effects.publish(REQUESTS, "trip-request", trip_id, &Ask { trip_id, step, cancel, full });
}

struct Place;

impl Fold for Place {
    type Input = Body<Trip>;
    type Rows = Claims<Uuid>;

    fn load(db: &Db<'_>, trips: &[Body<Trip>]) -> DbResult<Claims<Uuid>> {
        let found = db.query(
            "INSERT INTO public.trip (trip_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING
             RETURNING trip_id",
            &[many(keys(trips, |trip| trip.0.trip_id))],
        )?;
        Ok(found.rows()?.into_iter().map(|(id,)| id).collect())
    }

    fn decide(fresh: &mut Claims<Uuid>, Body(trip): &Body<Trip>, effects: &mut Effects<'_>) -> Response {
        if fresh.take(&trip.trip_id) {
            effects.start::<TripSaga>(trip.trip_id, trip);
        }
        Response::json(201, trip)
    }

    fn store(_: &Db<'_>, _: &Claims<Uuid>) -> DbResult<()> {
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    step: String,
    cancel: bool,
    done: bool,
}

struct TripSaga;

impl Saga for TripSaga {
    const TYPE: &'static str = "trip";
    type Data = Trip;
    type Reply = Event<Reply>;
    type Rows = Added<(Uuid, &'static str)>;

    fn steps(context: &Context<'_>) -> Vec<Step<Trip>> {
        let deadline = context.config_seconds("deadline_s", DEADLINE_S);
        let hotel = Step::new("HOTEL", |trip, effects| ask(trip, effects, "hotel", false))
            .undo("CANCEL_HOTEL", |trip, effects| ask(trip, effects, "hotel", true));
        let flight = Step::new("FLIGHT", |trip, effects| ask(trip, effects, "flight", false))
            .undo("CANCEL_FLIGHT", |trip, effects| ask(trip, effects, "flight", true));
        [hotel, flight].map(|step| step.deadline(deadline).on_deadline(OnDeadline::Undo)).into()
    }

    fn judge(_: &mut Trip, Event(reply): &Event<Reply>) -> Verdict {
        let state = match (reply.step.as_str(), reply.cancel) {
            ("hotel", false) => "HOTEL",
            ("hotel", true) => "CANCEL_HOTEL",
            (_, false) => "FLIGHT",
            (_, true) => "CANCEL_FLIGHT",
        };
        if reply.done { Verdict::Completed(state) } else { Verdict::Failed(state) }
    }

    fn finished(trip: &Trip, ending: Ending, rows: &mut Self::Rows, _: &mut Effects<'_>) -> Finished {
        let (ending, event) = match ending {
            Ending::Completed => ("completed", "TRIP_BOOKED"),
            Ending::Compensated => ("compensated", "TRIP_CANCELLED"),
            Ending::Failed => ("failed", "TRIP_FAILED"),
        };
        rows.add((trip.trip_id, ending));
        Finished { event, answer: None }
    }

    fn store(db: &Db<'_>, rows: &Self::Rows) -> DbResult<()> {
        let ended: BTreeSet<&(Uuid, &str)> = rows.iter().collect();
        db.execute(
            "UPDATE public.trip t SET ending = e.ending FROM unnest($1::uuid[], $2::text[]) e (id, ending)
              WHERE t.trip_id = e.id",
            &[many(ended.iter().map(|row| row.0)), many(ended.iter().map(|row| row.1.to_owned()))],
        )?;
        Ok(())
    }
}
