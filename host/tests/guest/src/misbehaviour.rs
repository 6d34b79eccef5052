//! The misbehaviours.

use std::{hint::black_box, thread::sleep, time::Duration};

use saga_plugin::bindings::saga::plugin::{
    context::now,
    kafka::publish,
    postgres::{SqlError, query},
    sagas::{self, NewSaga, Status, Transition},
    types::Failure,
};

use super::{DONE, SAGA, is_in, message, refused};

const GIB: usize = 1 << 30;
/// More than any limit allows.
const MANY: usize = 1_000;

/// Fails in `describe`, in a component that a test has changed to do so.
pub(crate) fn while_described() {
    if is_in("trap") {
        trap();
    }
    if is_in("loop") {
        run_for_ever();
    }
    if is_in("huge") {
        drop(black_box(vec![1_u8; GIB]));
    }
}

/// Misbehaves as the name says; does nothing for an unknown name.
pub(crate) fn of(how: &str, cause: u32) -> Result<(), Failure> {
    match how {
        "trap" => trap(),
        "exit" => std::process::exit(3),
        "loop" => run_for_ever(),
        "sleep" => sleep(Duration::from_secs(60)),
        "allocate" => drop(black_box(vec![1_u8; GIB])),
        "recurse" => drop(black_box(recurse(0))),
        "publish-elsewhere" => publish(&[message(cause, "order-created-topic")]).map_err(refused)?,
        "publish-many" => publish(&vec![message(cause, DONE); MANY]).map_err(refused)?,
        "publish-for-another" => publish(&[message(cause + 1_000, DONE)]).map_err(refused)?,
        "state-often" => (0..MANY).try_for_each(|_| state("SELECT 1"))?,
        "select-many" => state("SELECT generate_series(1, 1000000000000)")?,
        "sleep-in-sql" => state("SELECT pg_sleep(60)::text")?,
        "bad-sql" => state("SELECT nothing FROM nowhere")?,
        "commit" => state("COMMIT")?,
        "spill" => state("SELECT count(*) FROM generate_series(1, 10000000)")?,
        "lone-surrogate" => start_with_data("surrogate", cause, r#"{"text":"\ud800"}"#)?,
        // Continues as if the statement had succeeded.
        "hide-an-error" => drop(state("SELECT nothing FROM nowhere")),
        _ => match how.split_once('-') {
            Some(("start", key)) => start(key, cause)?,
            Some(("step", key)) => step(key, cause)?,
            Some(("raise", sqlstate)) => state(&format!("SELECT public.raise('{sqlstate}')"))?,
            // Changes a row, which is no misbehaviour.
            Some(("move", account)) => state(&format!(
                "UPDATE public.account SET moves = moves + 1 WHERE id = {account} RETURNING moves"
            ))?,
            _ => {}
        },
    }
    Ok(())
}

/// Starts a saga, which is no misbehaviour.
fn start(key: &str, cause: u32) -> Result<(), Failure> {
    start_with_data(key, cause, "{}")
}

fn start_with_data(key: &str, cause: u32, data: &str) -> Result<(), Failure> {
    let deadline = deadline();
    let (saga_type, state, data) = (SAGA.to_owned(), "started".to_owned(), data.to_owned());
    sagas::start(&[NewSaga { cause, saga_type, key: key.to_owned(), state, data, deadline }]).map_err(refused)
}

/// Advances a saga, if there is one, which is no misbehaviour either.
fn step(key: &str, cause: u32) -> Result<(), Failure> {
    let found = sagas::load(SAGA, &[key.to_owned()]).map_err(refused)?;
    let step = |saga: sagas::Saga| Transition {
        cause,
        saga_type: saga.saga_type,
        key: saga.key,
        expected_revision: saga.revision,
        event: "STEPPED".to_owned(),
        state: "stepped".to_owned(),
        data: None,
        status: Status::Until(deadline()),
    };
    let steps: Vec<Transition> = found.into_iter().flatten().map(step).collect();
    sagas::advance(&steps).map_err(refused)
}

fn deadline() -> i64 {
    now() + 3_600_000_000
}

#[allow(clippy::panic, reason = "it is what this is for")]
fn trap() {
    panic!("no stock of patience");
}

fn run_for_ever() {
    while black_box(true) {}
}

/// Not in tail position: the compiler would make a loop of it.
fn recurse(depth: u64) -> u64 {
    black_box(depth) + if black_box(true) { recurse(depth + 1) } else { 0 }
}

fn state(sql: &str) -> Result<(), Failure> {
    let failure = |error: SqlError| Failure { message: error.message, culprits: Vec::new() };
    query(sql, &[]).map(drop).map_err(failure)
}
