//! The host dies as by `kill -9` at each fault point, in a lane of requests and in one of records. The fault
//! point determines whether the work of the unit is there afterwards. The next host brings every order to its
//! end, and every invariant holds.
//!
//! ```text
//!  a plugin alone in its host ──✗ fault point ── Postgres, Kafka ── all plugins, no fault ── invariants
//! ```

use saga_testkit::service::{DEDUCTED, ORDER_CREATED};

use crate::support::{
    flow::{self, ORDERS, Products},
    folder,
    host::{self, spawn_with_fault},
    stack::Own,
};

const OUTBOX: &str = "SELECT count(*) FROM saga.outbox";
const PLACED: &str = "SELECT count(*) FROM public.customer_order";
const IN_STOCK: &str = "SELECT coalesce(sum(current_qty), 0)::bigint FROM public.stock";

/// What a unit that was cut short has left behind.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    rows: bool,
    outbox: bool,
    records: bool,
}

const NOTHING: Left = Left { rows: false, outbox: false, records: false };
const NOT_PUBLISHED: Left = Left { rows: true, outbox: true, records: false };
const NOT_CLEARED: Left = Left { rows: true, outbox: true, records: true };

/// The orchestrator dies while it takes orders.
async fn in_the_lane_of_requests(fault: &str, expected: Left) {
    let stack = Own::start().await;
    let target = &stack.target;
    let products = products(&stack).await;
    let host = spawn_with_fault(target, &folder::plugins(&["order-orchestrator"]), fault);
    let orders = products.place(target);
    host.dies().await;
    let left = Left {
        rows: flow::count(target, "cmd-order", PLACED).await > 0,
        outbox: flow::count(target, "cmd-order", OUTBOX).await > 0,
        records: flow::records(target, ORDER_CREATED).await > 0,
    };
    assert_eq!(left, expected, "{fault}");

    let _host = host::run(target, &folder::plugins(&[])).await;
    flow::all_accepted(orders).await;
    recovers(&stack, &expected).await;
}

/// Inventory dies while it deducts what was ordered before.
async fn in_the_lane_of_records(fault: &str, expected: Left) {
    let stack = Own::start().await;
    let target = &stack.target;
    let products = products(&stack).await;
    let host = host::run(target, &folder::plugins(&["order-orchestrator"])).await;
    flow::all_accepted(products.place(target)).await;
    host.stop().await;
    assert_eq!(flow::records(target, ORDER_CREATED).await, ORDERS as u64);
    let stocked = flow::count(target, "cmd-inventory", IN_STOCK).await;
    spawn_with_fault(target, &folder::plugins(&["inventory-command"]), fault).dies().await;
    let left = Left {
        rows: flow::count(target, "cmd-inventory", IN_STOCK).await < stocked,
        outbox: flow::count(target, "cmd-inventory", OUTBOX).await > 0,
        records: flow::records(target, DEDUCTED).await > 0,
    };
    assert_eq!(left, expected, "{fault}");

    let _host = host::run(target, &folder::plugins(&[])).await;
    recovers(&stack, &expected).await;
}

async fn products(stack: &Own) -> Products {
    let host = host::run(&stack.target, &folder::plugins(&["inventory-command"])).await;
    let products = Products::new(&stack.target).await;
    host.stop().await;
    products
}

/// Only records that Kafka had and the outbox still held are repeated, with the same id and bytes.
async fn recovers(stack: &Own, left: &Left) {
    let (ledger, _) = flow::ends_as_expected(&stack.target).await;
    assert_eq!(ledger.repeated > 0, left.records, "{} records are repeated", ledger.repeated);
}

#[tokio::test]
async fn a_request_before_commit() {
    in_the_lane_of_requests("before-commit", NOTHING).await;
}

#[tokio::test]
async fn a_request_after_commit_before_publish() {
    in_the_lane_of_requests("after-commit-before-publish", NOT_PUBLISHED).await;
}

#[tokio::test]
async fn a_request_after_publish_before_clear() {
    in_the_lane_of_requests("after-publish-before-clear", NOT_CLEARED).await;
}

#[tokio::test]
async fn a_record_before_commit() {
    in_the_lane_of_records("before-commit", NOTHING).await;
}

#[tokio::test]
async fn a_record_after_commit_before_publish() {
    in_the_lane_of_records("after-commit-before-publish", NOT_PUBLISHED).await;
}

#[tokio::test]
async fn a_record_after_publish_before_clear() {
    in_the_lane_of_records("after-publish-before-clear", NOT_CLEARED).await;
}
