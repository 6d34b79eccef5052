//! Orders under fixed ids, each sent again until it is accepted, and their expected ends.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use saga_testkit::{
    caller::Request,
    database::Databases,
    report::Report,
    target::Target,
    verify::{self, Ledger, Rows, Scope},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{SOON, all_hold, eventually};

const REPEAT: Duration = Duration::from_millis(50);
/// Orders for which a product's stock is enough.
const PLENTY: usize = 12;
/// Stock of the scarce product, and orders of it.
const SCARCE: (usize, usize) = (5, 8);
/// Orders of one flow.
pub(crate) const ORDERS: usize = PLENTY + SCARCE.1;
/// Of these confirmed.
pub(crate) const CONFIRMED: usize = PLENTY + SCARCE.0;
/// Of these cancelled.
pub(crate) const CANCELLED: usize = SCARCE.1 - SCARCE.0;

/// Two products: one with enough stock for all its orders, and one with too little.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    plenty: i64,
    scarce: i64,
}

impl Products {
    /// Creates both.
    pub(crate) async fn new(target: &Target) -> Self {
        Self { plenty: product(target, PLENTY).await, scarce: product(target, SCARCE.0).await }
    }

    /// The order of a number: the first ones are for the product with enough stock.
    fn order(self, number: usize) -> Request {
        let product = if number < PLENTY { self.plenty } else { self.scarce };
        let id = id(number);
        Request::post("/orders", format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":1}}"#))
    }

    /// Places all orders at once.
    pub(crate) fn place(self, target: &Target) -> JoinSet<anyhow::Result<()>> {
        self.place_some(target, 0..ORDERS)
    }

    /// Places the orders of these numbers at once.
    pub(crate) fn place_some(
        self,
        target: &Target,
        numbers: std::ops::Range<usize>,
    ) -> JoinSet<anyhow::Result<()>> {
        let mut orders = JoinSet::new();
        for number in numbers {
            let (order, address) = (self.order(number), target.http().unwrap().to_owned());
            orders.spawn(accepted(order, address));
        }
        orders
    }

    /// Places all orders, each waiting for its end; gives the statuses that the answers contain.
    pub(crate) async fn place_and_wait(self, target: &Target) -> Vec<String> {
        let mut orders = JoinSet::new();
        for number in 0..ORDERS {
            let order = self.order(number).header("Prefer", "wait=30");
            let address = target.http().unwrap().to_owned();
            orders.spawn(async move { order.send(&address).await?.expect(201)?.member("orderStatus") });
        }
        let mut ends = Vec::new();
        for end in orders.join_all().await {
            ends.push(end.unwrap_or_else(|error| panic!("{error:#}")).as_str().unwrap().to_owned());
        }
        ends
    }
}

/// The id of an order.
pub(crate) fn id(number: usize) -> Uuid {
    Uuid::from_u128(0x0193_a1b2_0000_7000_8000_0000_0000_0001 + number as u128)
}

/// A new product.
pub(crate) async fn product(target: &Target, qty: usize) -> i64 {
    let made = Request::post("/stocks", format!(r#"{{"qty":{qty}}}"#)).send(target.http().unwrap()).await;
    made.unwrap().expect(201).unwrap().member("productId").unwrap().as_i64().unwrap()
}

/// Sends an order until it is accepted. Repeats it only after failures that a repeat can help with.
pub(crate) async fn accepted(order: Request, address: String) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match order.send(&address).await {
            Ok(reply) if reply.status < 500 => return reply.expect(201).map(drop),
            Ok(reply) if began.elapsed() > SOON => bail!("{}: {}", reply.status, reply.short()),
            Err(error) if began.elapsed() > SOON => return Err(error),
            _ => tokio::time::sleep(REPEAT).await,
        }
    }
}

/// Asserts that all placed orders are accepted.
pub(crate) async fn all_accepted(mut orders: JoinSet<anyhow::Result<()>>) {
    while let Some(order) = orders.join_next().await {
        order.unwrap().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Waits until the system is quiet. Then every invariant must hold, and the orders must have ended as their
/// stock allows.
pub(crate) async fn ends_as_expected(target: &Target) -> (Ledger, Rows) {
    let mut report = Report::silent();
    let read = verify::check(target, &Scope::all(SOON), &mut report).await.unwrap();
    all_hold(&report);
    let count = |status: &str| read.1.orders.values().filter(|order| order.status == status).count();
    assert_eq!((count("CONFIRMED"), count("CANCELLED")), (CONFIRMED, CANCELLED));
    assert_eq!(read.1.orders.len(), ORDERS);
    assert!(read.1.stocks.values().all(|left| *left == 0), "{:?}", read.1.stocks);
    read
}

/// One number of a database.
pub(crate) async fn count(target: &Target, database: &str, statement: &'static str) -> i64 {
    let databases = Databases::new(&target.postgres).unwrap();
    let count = databases.count(database, statement).await.unwrap();
    databases.close().await;
    count
}

/// Waits until a number of a database is reached.
pub(crate) async fn reaches(target: &Target, database: &str, statement: &'static str, expected: i64) {
    let databases = Databases::new(&target.postgres).unwrap();
    eventually(async || {
        let count = databases.count(database, statement).await?;
        ensure!(count >= expected, "{count} instead of {expected}: {statement}");
        Ok(())
    })
    .await;
    databases.close().await;
}

/// The number of records in a topic, read by a consumer of the test.
pub(crate) async fn records(target: &Target, topic: &'static str) -> u64 {
    let brokers = target.kafka.clone();
    let read = move || saga_testkit::topic::reader::read_all(&brokers, &[topic], |_| {});
    saga_testkit::topic::blocking(read).await.context(topic).unwrap()
}
