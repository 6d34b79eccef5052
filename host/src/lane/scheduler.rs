//! What the database brings back: held deliveries whose turn has come, timers, and deadlines.

use std::sync::Arc;

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::{
        correlation::indexable,
        delivery::{Delivery, Origin},
        trace::Trace,
    },
    unit::overdue::deadline_id,
};

/// What this host looks after.
#[derive(Debug)]
pub struct Owned {
    /// Partitions: topic, partition, position.
    pub claims: Vec<(Arc<str>, i32, i64)>,
    /// Whether it leads the database's relay: it also looks after timers and deadlines then.
    pub leads: bool,
    /// Names the host.
    pub owner: String,
}

/// What fell due, at most `limit` of each kind.
///
/// # Errors
/// When Postgres is away.
pub async fn due(pool: &PgPool, plugin: &str, owned: &Owned, limit: u32) -> anyhow::Result<Vec<Delivery>> {
    let Kinds { some_parked, timer_due, deadline_due, leads } =
        kinds(pool, plugin, owned).await.context("asking what is due")?;
    let mut due = Vec::new();
    if some_parked {
        due = held(pool, plugin, owned, leads, limit).await.context("reading what is held")?;
    }
    if leads && timer_due {
        due.extend(timers(pool, plugin, limit).await.context("reading the timers")?);
    }
    if leads && deadline_due {
        due.extend(deadlines(pool, plugin, limit).await.context("reading the deadlines")?);
    }
    Ok(due)
}

/// What there is to look for. Mostly nothing is, and one question is enough.
struct Kinds {
    some_parked: bool,
    timer_due: bool,
    deadline_due: bool,
    /// Where the host that leads the relay has no lane for the plugin, as when it cannot run its active
    /// version, every other host takes the lead for it: what two of them find is locked by one.
    leads: bool,
}

async fn kinds(pool: &PgPool, plugin: &str, owned: &Owned) -> sqlx::Result<Kinds> {
    let (some_parked, timer_due, deadline_due, leads) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM saga.parked WHERE plugin = $1 AND direction = 'in'),
                EXISTS (SELECT FROM saga.timer WHERE plugin = $1 AND due_at <= now()),
                EXISTS (SELECT FROM saga.saga_live WHERE plugin = $1 AND next_at <= now()),
                $2 OR NOT EXISTS (
                    SELECT FROM saga.lane leader JOIN saga.lane theirs USING (owner)
                     WHERE leader.slot = 0 AND leader.lease_expires_at > now() AND leader.owner <> $3
                       AND theirs.plugin = $1 AND theirs.kind = 'kafka' AND theirs.lease_expires_at > now())",
    )
    .bind(plugin)
    .bind(owned.leads)
    .bind(&owned.owner)
    .fetch_one(pool)
    .await?;
    Ok(Kinds { some_parked, timer_due, deadline_due, leads })
}

/// The first held delivery of each key, when its time has come or it was never tried.
async fn held(
    pool: &PgPool,
    plugin: &str,
    owned: &Owned,
    leads: bool,
    limit: u32,
) -> anyhow::Result<Vec<Delivery>> {
    let topics: Vec<&str> = owned.claims.iter().map(|(topic, _, _)| &**topic).collect();
    let partitions: Vec<i32> = owned.claims.iter().map(|(_, partition, _)| *partition).collect();
    let rows: Vec<(i64, Vec<u8>, i32)> = sqlx::query_as(
        "SELECT id, body, attempts FROM (
             SELECT DISTINCT ON (topic, partition, coalesce(key, id::text)) id, body, attempts, retry_at
               FROM saga.parked h
              WHERE plugin = $1 AND direction = 'in'
                AND (EXISTS (SELECT FROM unnest($2::text[], $3::int[]) o (topic, partition)
                              WHERE o.topic = h.topic AND o.partition = h.partition)
                     OR ($4 AND partition < 0))
              ORDER BY topic, partition, coalesce(key, id::text), id) first
         WHERE attempts = 0 OR retry_at <= now() ORDER BY id LIMIT $5",
    )
    .bind(plugin)
    .bind(topics)
    .bind(partitions)
    .bind(leads)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let read = |(id, body, attempts): (i64, Vec<u8>, i32)| match postcard::from_bytes::<Delivery>(&body) {
        Ok(delivery) => Some(Delivery {
            parked_id: Some(id),
            attempt: u32::try_from(attempts).unwrap_or(0) + 1,
            ..delivery
        }),
        Err(error) => {
            tracing::error!(plugin, id, reason = %error, "a held delivery is not of this version");
            None
        }
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

async fn timers(pool: &PgPool, plugin: &str, limit: u32) -> anyhow::Result<Vec<Delivery>> {
    let rows: Vec<(String, Option<String>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT name, correlation, payload, (extract(epoch FROM due_at) * 1000000)::bigint FROM saga.timer
          WHERE plugin = $1 AND due_at <= now() ORDER BY due_at, name LIMIT $2",
    )
    .bind(plugin)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let delivery = |(name, correlation, payload, due_us): (String, Option<String>, Vec<u8>, i64)| Delivery {
        id: format!("timer/{name}/{due_us}"),
        payload: Some(payload),
        correlation: correlation.map(indexable),
        ..bare(Origin::Timer { name }, due_us)
    };
    Ok(rows.into_iter().map(delivery).collect())
}

async fn deadlines(pool: &PgPool, plugin: &str, limit: u32) -> anyhow::Result<Vec<Delivery>> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT type, key, revision, (extract(epoch FROM next_at) * 1000000)::bigint FROM saga.saga_live
          WHERE plugin = $1 AND next_at <= now() ORDER BY next_at LIMIT $2",
    )
    .bind(plugin)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let delivery = |(saga_type, key, revision, due_us): (String, String, i64, i64)| Delivery {
        id: deadline_id(&saga_type, &key, revision),
        correlation: Some(key.clone()),
        ..bare(Origin::Deadline { saga_type, key, revision }, due_us)
    };
    Ok(rows.into_iter().map(delivery).collect())
}

/// A delivery with nothing but what brought it back.
pub(crate) fn bare(origin: Origin, timestamp_us: i64) -> Delivery {
    Delivery {
        id: String::new(),
        origin,
        correlation: None,
        event_type: String::new(),
        key: None,
        headers: Vec::new(),
        payload: None,
        timestamp_us,
        attempt: 1,
        trace: Trace::begin(),
        mark: None,
        foreign_id: None,
        parked_id: None,
        claim_epoch: 0,
    }
}
