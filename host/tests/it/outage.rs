//! Postgres or Kafka is unreachable for a while: nothing is lost or parked, and the host continues without a
//! restart.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    flow::{self, ORDERS, Products},
    folder, host,
    stack::Own,
};

const PLACED: &str = "SELECT count(*) FROM public.customer_order";
/// The process of one session of a lane.
const SESSION: &str = "SELECT pid::bigint FROM pg_stat_activity
     WHERE usename = 'plugin_inventory_command' ORDER BY pid LIMIT 1";

#[tokio::test]
async fn postgres_crashes_and_recovers() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &folder::plugins(&[])).await;
    let products = Products::new(target).await;
    let before = products.place_some(target, 0..ORDERS / 2);
    flow::reaches(target, "cmd-order", PLACED, 1).await;
    // When a session is killed, the server ends all others and replays its log.
    let session = i32::try_from(flow::count(target, "cmd-inventory", SESSION).await).unwrap();
    kill_process(Pid::from_raw(session).unwrap(), Signal::KILL).unwrap();
    let after = products.place_some(target, ORDERS / 2..ORDERS);
    flow::all_accepted(before).await;
    flow::all_accepted(after).await;
    flow::ends_as_expected(target).await;
}

#[tokio::test]
async fn postgres_and_kafka_restart() {
    let mut stack = Own::start().await;
    let _host = host::run(&stack.target, &folder::plugins(&[])).await;
    let products = Products::new(&stack.target).await;
    let before = products.place_some(&stack.target, 0..ORDERS / 2);
    flow::reaches(&stack.target, "cmd-order", PLACED, 1).await;
    let after = products.place_some(&stack.target, ORDERS / 2..ORDERS);
    stack.restart().await;
    flow::all_accepted(before).await;
    flow::all_accepted(after).await;
    flow::ends_as_expected(&stack.target).await;
}
