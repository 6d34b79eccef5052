//! A step that timed out may have been done: it is undone like a done one. A saga of two steps, a hotel and a
//! flight, with a participant that books and cancels.

use anyhow::{Context, ensure};
use saga_testkit::{caller::Request, target::Target};
use uuid::Uuid;

use crate::support::{
    database::Database,
    eventually, folder,
    host::{self, get},
    stack::Own,
    trip::{self, BOOKING, TRIP},
};

const TRIPS: u128 = 60;
/// One trip in so many has a flight that is full.
const ONE_FULL_IN: u128 = 4;
const LIVE: &str = "SELECT count(*) FROM saga.saga_live";

async fn place(target: &Target, number: u128) -> Uuid {
    let id = Uuid::from_u128(number + 1);
    let full = number.is_multiple_of(ONE_FULL_IN);
    let body = format!(r#"{{"tripId":"{id}","full":{full}}}"#);
    Request::post("/trips", body).send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    id
}

/// The events of a saga's log, in order.
async fn events(target: &Target, trip: Uuid) -> anyhow::Result<Vec<String>> {
    let shown = get(target, &format!("/v1/sagas/trip/{trip}")).await?;
    let timeline = shown["timeline"].as_array().context("no timeline")?;
    Ok(timeline.iter().map(|entry| entry["event"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test]
async fn a_step_that_timed_out_is_undone_and_its_late_reply_is_in_the_log() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    let target = &stack.target;
    trip::add(&plugins, TRIP);
    let _host = host::run(target, &plugins).await;
    let trip = place(target, 1).await;
    eventually(async || {
        let events = events(target, trip).await?;
        ensure!(events.iter().any(|event| event == "HOTEL_TIMED_OUT"), "{events:?}");
        Ok(())
    })
    .await;

    trip::add(&plugins, BOOKING);
    eventually(async || {
        let shown = get(target, &format!("/v1/sagas/trip/{trip}")).await?;
        ensure!(shown["ending"] == "compensated", "{shown}");
        Ok(())
    })
    .await;
    // The reply to the hotel came before the one to its cancellation, on one partition.
    let events = events(target, trip).await.unwrap();
    let events: Vec<&str> =
        events.iter().map(String::as_str).filter(|event| *event != "SAGA_OVERDUE").collect();
    assert_eq!(events, ["SAGA_STARTED", "HOTEL_TIMED_OUT", "HOTEL_COMPLETED_LATE", "TRIP_CANCELLED"]);
    let mut bookings = Database::connect(target, BOOKING).await;
    assert_eq!(bookings.number("SELECT count(*) FROM public.booking WHERE booked").await, 0);
    assert_eq!(bookings.number("SELECT count(*) FROM public.booking").await, 1);
}

/// The host is dead for longer than the deadline of a step, twice.
#[tokio::test]
async fn nothing_of_a_cancelled_trip_stays_booked_after_kills() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    let target = &stack.target;
    trip::PLUGINS.iter().for_each(|plugin| trip::add(&plugins, plugin));
    let mut host = host::run(target, &plugins).await;
    let mut trips = Database::connect(target, TRIP).await;
    let mut bookings = Database::connect(target, BOOKING).await;
    for half in [0..TRIPS / 2, TRIPS / 2..TRIPS] {
        for number in half {
            place(target, number).await;
        }
        host.kill().await;
        // Those that have not ended miss a deadline.
        trips.reaches(&format!("{LIVE} WHERE next_at > now()"), 0).await;
        host = host::run(target, &plugins).await;
    }
    trips.reaches(LIVE, 0).await;
    bookings.reaches("SELECT count(*) FROM saga.outbox", 0).await;

    assert_eq!(trips.number("SELECT count(*) FROM public.trip").await, TRIPS as i64);
    let ended: Vec<(String, String)> = sqlx::query_as("SELECT trip_id::text, ending FROM public.trip")
        .fetch_all(&mut trips.0)
        .await
        .unwrap();
    let booked: Vec<(String, i64)> =
        sqlx::query_as("SELECT trip_id::text, count(*) FILTER (WHERE booked) FROM public.booking GROUP BY 1")
            .fetch_all(&mut bookings.0)
            .await
            .unwrap();
    for (trip, ending) in ended {
        let steps = booked.iter().find(|(of, _)| *of == trip).map_or(0, |(_, steps)| *steps);
        let expected = if ending == "completed" { 2 } else { 0 };
        assert_eq!((ending.as_str(), steps), (ending.as_str(), expected), "{trip}");
    }
    let missed = "SELECT count(*) FROM saga.saga_done WHERE log LIKE '%_TIMED_OUT%'";
    assert!(trips.number(missed).await > 0, "no step has missed its deadline");
}
