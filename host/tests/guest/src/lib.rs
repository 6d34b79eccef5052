//! A plugin that misbehaves in the way that each request or record names. It calls the host without the
//! dispatch of the SDK, which would prevent that.
//!
//! Whatever the name is, it first publishes one message, which it may do. The message of a misbehaviour must
//! never be sent.

mod misbehaviour;

use saga_plugin::bindings::{
    exports::saga::plugin::manifest::{Access, Correlation, Description, Migration, Route, Subscription},
    saga::plugin::{
        kafka::{Outgoing, publish},
        types::{Failure, Refusal},
    },
};

/// The topic that it reads: the value of a record names what to do.
const TOPIC: &str = "misbehaviour-topic";
/// The topic that it may publish to.
const DONE: &str = "well-behaved-topic";

/// The type of its sagas: `start-KEY` starts one, `step-KEY` advances it.
const SAGA: &str = "misbehaviour";

/// A test replaces these bytes in the component to get another version. `evil` fails at everything, `late` at
/// deliveries only; `trap`, `loop` and `huge` fail in `describe`.
static MOOD: [u8; 9] = *b"mood:good";

fn is_in(mood: &str) -> bool {
    std::hint::black_box(&MOOD).ends_with(mood.as_bytes())
}

/// The description of this plugin.
#[must_use]
pub fn describe() -> Description {
    misbehaviour::while_described();
    let subscription =
        Subscription { topic: TOPIC.to_owned(), correlation: Correlation::RecordKey, foreign_ids: false };
    let route =
        Route { method: "POST".to_owned(), path: "/misbehave/{how}".to_owned(), access: Access::Write };
    Description {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        subscriptions: vec![subscription],
        routes: vec![route],
        publishes: vec![DONE.to_owned()],
        sagas: vec![SAGA.to_owned()],
        gather_ms: 0,
        migrations: vec![tables()],
        extensions: Vec::new(),
    }
}

/// Rows to change, and a function that raises any SQLSTATE.
fn tables() -> Migration {
    let sql = "CREATE TABLE public.account (id int PRIMARY KEY, moves int NOT NULL);
         INSERT INTO public.account SELECT n, 0 FROM generate_series(1, 20) n;
         CREATE FUNCTION public.raise(sqlstate_raised text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
             RAISE EXCEPTION 'raised by the guest' USING ERRCODE = sqlstate_raised;
         END $$";
    Migration { name: "0001_misbehaving.sql".to_owned(), sql: sql.to_owned() }
}

/// Handles a batch of names, and gives `answer` for each.
///
/// # Errors
/// The host refused an effect, or a statement failed.
///
/// # Panics
/// In a component that a test has changed to panic.
pub fn handle<A: Clone>(batch: &[String], answer: &A) -> Result<Vec<A>, Failure> {
    assert!(!is_in("evil"), "in an evil mood");
    for (how, cause) in batch.iter().zip(0..) {
        publish(&[message(cause, DONE)]).map_err(refused)?;
        misbehaviour::of(how, cause)?;
    }
    let missing = batch.iter().filter(|how| *how == "miscount").count();
    Ok(vec![answer.clone(); batch.len() - missing])
}

fn message(cause: u32, topic: &str) -> Outgoing {
    Outgoing {
        cause,
        topic: topic.to_owned(),
        key: None,
        event_type: "handled".to_owned(),
        content_type: "text/plain".to_owned(),
        headers: Vec::new(),
        payload: Some(Vec::new()),
    }
}

/// Names no culprit: the host has to find it.
fn refused(refusal: Refusal) -> Failure {
    Failure { message: format!("{}: {}", refusal.code, refusal.message), culprits: Vec::new() }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, missing_docs, reason = "generated")]
mod component {
    use saga_plugin::bindings::{
        export,
        exports::saga::plugin::{
            deliveries::{self, Delivery, Outcome},
            manifest::{self, Description},
            requests::{self, Request, Response},
        },
        saga::plugin::{sagas::Saga, types::Failure},
    };

    struct Component;

    impl manifest::Guest for Component {
        fn describe() -> Description {
            super::describe()
        }
    }

    impl deliveries::Guest for Component {
        fn handle(batch: Vec<Delivery>, _: Vec<Saga>) -> Result<Vec<Outcome>, Failure> {
            let value = |delivery: Delivery| {
                String::from_utf8_lossy(&delivery.payload.unwrap_or_default()).into_owned()
            };
            assert!(!super::is_in("late"), "in a mood to be late");
            super::handle(&batch.into_iter().map(value).collect::<Vec<_>>(), &Outcome::Done)
        }
    }

    impl requests::Guest for Component {
        fn handle(batch: Vec<Request>) -> Result<Vec<Response>, Failure> {
            let created = Response { status: 201, headers: Vec::new(), body: Vec::new(), saga: None };
            super::handle(&batch.into_iter().flat_map(|request| request.params).collect::<Vec<_>>(), &created)
        }
    }

    export!(Component with_types_in saga_plugin::bindings);
}
