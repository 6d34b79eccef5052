//! The running system as all areas see it: its addresses, common requests, and waiting for an effect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::caller::{Reply, Request};
use crate::database::Databases;
use crate::quiet;
use crate::service::TOPICS;
use crate::target::Target;
use crate::topic::writer::{Draft, Writer};
use crate::topic::{Record, blocking, reader};

/// Where the host API lists parked deliveries.
pub(super) const PARKED: &str = "/v1/parked";

const EFFECT_WITHIN: Duration = Duration::from_secs(15);
const QUIET_WITHIN: Duration = Duration::from_secs(30);

/// A running system.
pub struct System {
    /// Its addresses.
    pub target: Target,
    /// Its databases.
    pub databases: Databases,
    writer: Writer,
    http: String,
    admin: String,
}

/// The ends of the six topics at some moment.
pub struct Mark(Vec<(String, i32, i64)>);

impl System {
    /// Opens clients; connections are opened when they are first used.
    ///
    /// # Errors
    /// An address is missing or malformed.
    pub fn connect(target: Target) -> Result<Self> {
        let (http, admin) = (target.http()?.to_owned(), target.admin()?.to_owned());
        let databases = Databases::new(&target.postgres)?;
        let writer = Writer::new(&target.kafka)?;
        Ok(Self { target, databases, writer, http, admin })
    }

    /// Sends a request to the service routes.
    pub(super) async fn send(&self, request: Request) -> Result<Reply> {
        request.send(&self.http).await
    }

    /// Sends a request to the host API.
    pub(super) async fn admin(&self, request: Request) -> Result<Reply> {
        request.send(&self.admin).await
    }

    /// `GET` of a service route, expecting 200.
    pub(super) async fn get(&self, path: impl Into<String>) -> Result<Reply> {
        self.send(Request::get(path)).await?.expect(200)
    }

    /// Creates a product.
    pub(super) async fn product(&self, qty: i64) -> Result<i64> {
        let reply = self.send(Request::post("/stocks", format!(r#"{{"qty":{qty}}}"#))).await?.expect(201)?;
        reply.member("productId")?.as_i64().context("productId is not a number")
    }

    /// Places an order and waits for its end; gives its id and status.
    pub(super) async fn ended_order(&self, product: i64, qty: i64) -> Result<(String, String)> {
        let reply = self.send(order_request(product, qty).header("Prefer", "wait=25")).await?.expect(201)?;
        let member =
            |name| Ok::<_, anyhow::Error>(reply.member(name)?.as_str().unwrap_or_default().to_owned());
        Ok((member("orderId")?, member("orderStatus")?))
    }

    /// The quantity that the query side shows.
    pub(super) async fn shown_quantity(&self, product: i64) -> Result<i64> {
        self.get(format!("/stocks/{product}"))
            .await?
            .member("currentQty")?
            .as_i64()
            .context("currentQty is not a number")
    }

    /// Waits until the query side shows this quantity.
    pub(super) async fn await_quantity(&self, product: i64, quantity: i64) -> Result<()> {
        eventually(async || {
            let shown = self.shown_quantity(product).await?;
            ensure!(shown == quantity, "product {product} shows {shown} instead of {quantity}");
            Ok(())
        })
        .await
    }

    /// Waits until the query side shows this status.
    pub(super) async fn await_status(&self, order: &str, status: &str) -> Result<()> {
        eventually(async || {
            let shown = self.get(format!("/orders/{order}")).await?.member("orderStatus")?;
            ensure!(shown == status, "{order} shows {shown} instead of {status}");
            Ok(())
        })
        .await
    }

    /// Waits until the system is quiet.
    pub(super) async fn quiet(&self) -> Result<()> {
        let motion = quiet::wait(&self.target, &self.databases, QUIET_WITHIN).await?;
        ensure!(motion.is_empty(), "the system does not become quiet: {}", motion.join("; "));
        Ok(())
    }

    /// The ends of all topics now.
    pub(super) async fn mark(&self) -> Result<Mark> {
        let brokers = self.target.kafka.clone();
        blocking(move || Ok(Mark(reader::ends(&brokers, &TOPICS)?))).await
    }

    /// All records since the mark. Waits until the system is quiet first.
    pub(super) async fn since(&self, mark: &Mark) -> Result<Vec<Record>> {
        self.quiet().await?;
        let (brokers, starts) = (self.target.kafka.clone(), mark.0.clone());
        blocking(move || {
            let mut records = Vec::new();
            reader::read_from(&brokers, &starts, |record| records.push(record))?;
            Ok(records)
        })
        .await
    }

    /// Writes a record as another service does.
    pub(super) async fn write(&self, topic: &str, draft: Draft) -> Result<(i32, i64)> {
        self.writer.write(topic, &draft).await
    }

    /// How many deliveries of this key were recorded as having changed nothing.
    pub(super) async fn ignored(&self, database: &str, key: &str) -> Result<i64> {
        let row: (i64,) = sqlx::query_as("SELECT count(*) FROM saga.ignored WHERE key = $1")
            .bind(key)
            .fetch_one(self.databases.of(database)?)
            .await?;
        Ok(row.0)
    }
}

/// `POST /orders` of this product.
pub(super) fn order_request(product: i64, qty: i64) -> Request {
    Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":{qty}}}"#))
}

/// A new order id.
pub(super) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// A number for which no product was created here, for foreign stock records.
pub(super) fn foreign_product() -> i64 {
    let low = u64::try_from(Uuid::new_v4().as_u128() & 0xfff_ffff).unwrap_or_default();
    1_500_000_000 + i64::try_from(low).unwrap_or_default()
}

/// Repeats a check until it passes; after 15 s, returns its last failure.
pub(super) async fn eventually<T>(check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    quiet::eventually(EFFECT_WITHIN, check).await
}

/// Requires a time as RFC 3339 in UTC, written with `Z`.
pub(super) fn expect_utc(value: &Value) -> Result<()> {
    let text = value.as_str().with_context(|| format!("a time that is not text: {value}"))?;
    OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("not RFC 3339: {text}"))?;
    ensure!(text.ends_with('Z'), "not written in UTC: {text}");
    Ok(())
}

/// Records of one topic with this text as key or in the value.
pub(super) fn about<'a>(records: &'a [Record], topic: &str, what: &str) -> Vec<&'a Record> {
    let contains = |record: &&Record| {
        record.topic == topic && (record.text().contains(what) || record.key_text() == Some(what))
    };
    records.iter().filter(contains).collect()
}
