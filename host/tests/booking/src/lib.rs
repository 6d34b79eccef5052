//! Books and cancels for the sagas of trips. A row for each trip and step makes both happen once, in whatever
//! order they arrive: a cancellation that comes first makes the booking do nothing.

use saga_plugin::{
    Correlation, Db, DbResult, Definition, Effects, Event, Fold, Migration, Outcome, Table, Uuid, keys, many,
};
use serde::{Deserialize, Serialize};

const REQUESTS: &str = "trip-requests-topic";
const REPLIES: &str = "trip-replies-topic";

fn define() -> Definition {
    let tables = Migration {
        name: "0001_booking.sql".to_owned(),
        sql: "CREATE TABLE public.booking (
                  trip_id uuid NOT NULL,
                  step    text NOT NULL,
                  booked  boolean NOT NULL,
                  PRIMARY KEY (trip_id, step))"
            .to_owned(),
    };
    Definition::new("booking", env!("CARGO_PKG_VERSION"))
        .on::<Book>(REQUESTS, Correlation::Json("/tripId"))
        .publishes(&[REPLIES])
        .migrations([tables])
}

saga_plugin::plugin!(define);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    trip_id: Uuid,
    step: String,
    cancel: bool,
    full: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    trip_id: Uuid,
    step: &'a str,
    cancel: bool,
    done: bool,
}

struct Book;

impl Fold for Book {
    type Input = Event<Ask>;
    /// By trip and step: whether it is booked. A row that is not was cancelled.
    type Rows = Table<(Uuid, String), bool>;

    fn load(db: &Db<'_>, asked: &[Event<Ask>]) -> DbResult<Self::Rows> {
        let found = db.query(
            "SELECT trip_id, step, booked FROM public.booking WHERE trip_id = ANY ($1::uuid[])
              ORDER BY trip_id, step FOR UPDATE",
            &[many(keys(asked, |ask| ask.0.trip_id))],
        )?;
        let rows: Vec<(Uuid, String, bool)> = found.rows()?;
        Ok(rows.into_iter().map(|(trip, step, booked)| ((trip, step), booked)).collect())
    }

    fn decide(bookings: &mut Self::Rows, Event(ask): &Event<Ask>, effects: &mut Effects<'_>) -> Outcome {
        let Ask { trip_id, step, cancel, full } = ask;
        let key = (*trip_id, step.clone());
        let done = match (bookings.get(&key), cancel) {
            (_, true) => {
                bookings.set(key, false);
                true
            }
            (Some(booked), false) => *booked,
            (None, false) if *full => false,
            (None, false) => {
                bookings.set(key, true);
                true
            }
        };
        let reply = Reply { trip_id: *trip_id, step, cancel: *cancel, done };
        effects.publish(REPLIES, "trip-reply", trip_id, &reply);
        Outcome::Done
    }

    fn store(db: &Db<'_>, bookings: &Self::Rows) -> DbResult<()> {
        let (keys, booked): (Vec<&(Uuid, String)>, Vec<bool>) = bookings.changed().unzip();
        db.execute(
            "INSERT INTO public.booking (trip_id, step, booked)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::boolean[])
             ON CONFLICT (trip_id, step) DO UPDATE SET booked = excluded.booked",
            &[many(keys.iter().map(|key| key.0)), many(keys.iter().map(|key| key.1.clone())), many(booked)],
        )?;
        Ok(())
    }
}
