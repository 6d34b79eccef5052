//! The wire contract, as `saga-bench contract` checks it from outside.

use saga_bench::{
    contract::{Area, check},
    report::Report,
};

use crate::support::{all_hold, host};

async fn holds(area: Area) {
    let (_turn, target) = host::shared().await;
    let mut report = Report::silent();
    check(target, &[area], &mut report).await.unwrap();
    all_hold(&report);
}

#[tokio::test]
async fn orders() {
    holds(Area::Orders).await;
}

#[tokio::test]
async fn idempotency() {
    holds(Area::Idempotency).await;
}

#[tokio::test]
async fn bad_input() {
    holds(Area::BadInput).await;
}

#[tokio::test]
async fn stocks() {
    holds(Area::Stocks).await;
}

#[tokio::test]
async fn waiting() {
    holds(Area::Waiting).await;
}

#[tokio::test]
async fn events() {
    holds(Area::Events).await;
}

#[tokio::test]
async fn paging() {
    holds(Area::Paging).await;
}

#[tokio::test]
async fn methods() {
    holds(Area::Methods).await;
}

#[tokio::test]
async fn records() {
    holds(Area::Records).await;
}

#[tokio::test]
async fn foreign_orders() {
    holds(Area::ForeignOrder).await;
}

#[tokio::test]
async fn foreign_replies() {
    holds(Area::ForeignReply).await;
}

#[tokio::test]
async fn foreign_stocks() {
    holds(Area::ForeignStock).await;
}

#[tokio::test]
async fn parked_deliveries() {
    holds(Area::Parked).await;
}

#[tokio::test]
async fn host_api() {
    holds(Area::HostApi).await;
}
