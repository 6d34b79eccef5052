//! The scheduler: polls the database for due timers, due deadlines, and parked deliveries that are due for a
//! retry.

use std::sync::Arc;

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::{
        correlation::indexable,
        delivery::{Delivery, Origin},
        format::Unreadable,
    },
    unit::overdue::deadline_id,
};

/// What this host is responsible for.
#[derive(Debug)]
pub(super) struct Duties {
    /// The partitions that it has claimed: topic, partition, position.
    pub(super) positions: Vec<(Arc<str>, i32, i64)>,
    /// Whether it leads the relay of the database. The leader also handles the timers and deadlines.
    pub(super) leads: bool,
    /// The id of the host in `saga.lane`.
    pub(super) host_id: String,
    /// Parked deliveries that this build cannot read.
    pub(super) unreadable: Vec<i64>,
}

/// What one poll has found.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) deliveries: Vec<Delivery>,
    /// Parked deliveries that this build cannot read, each with the reason. They stay where they are, and
    /// later ones of their key behind them.
    pub(super) unreadable: Vec<(i64, Unreadable)>,
    /// All hosts of the database read formats up to this one.
    pub(super) reads_max: i32,
}

/// What is due, at most `limit` of each kind. Timers and deadlines that somebody has locked are left out, since
/// they cannot be handled: however many they are, they hold up no others.
///
/// # Errors
/// Postgres is unreachable.
pub(super) async fn due(pool: &PgPool, plugin: &str, duties: &Duties, limit: u32) -> anyhow::Result<Due> {
    let Kinds { any_parked, any_timer, any_deadline, leads, reads_max } =
        kinds(pool, plugin, duties).await.context("polling for what is due")?;
    let mut due = Due { reads_max, ..Due::default() };
    if any_parked {
        for (id, read) in
            parked(pool, plugin, duties, leads, limit).await.context("reading parked deliveries")?
        {
            match read {
                Ok(delivery) => due.deliveries.push(delivery),
                Err(error) => due.unreadable.push((id, error)),
            }
        }
    }
    if leads && any_timer {
        due.deliveries.extend(timers(pool, plugin, limit).await.context("reading the timers")?);
    }
    if leads && any_deadline {
        due.deliveries.extend(deadlines(pool, plugin, limit).await.context("reading the deadlines")?);
    }
    Ok(due)
}

/// Which kinds of due work exist. Usually there are none, and this one query is enough.
struct Kinds {
    any_parked: bool,
    any_timer: bool,
    any_deadline: bool,
    /// True also when the leader of the relay has no lane for the plugin, for example because it cannot run
    /// the active version. Then every other host handles the timers and deadlines; a row lock decides between
    /// two of them.
    leads: bool,
    /// The format that every host reads: each states its own with the lease of a lane. One that leads without
    /// a lane states none.
    reads_max: i32,
}

async fn kinds(pool: &PgPool, plugin: &str, duties: &Duties) -> sqlx::Result<Kinds> {
    let (any_parked, any_timer, any_deadline, leads, reads_max) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM saga.parked WHERE plugin = $1 AND direction = 'in'),
                EXISTS (SELECT FROM saga.timer WHERE plugin = $1 AND due_at <= now()),
                EXISTS (SELECT FROM saga.saga_live WHERE plugin = $1 AND next_at <= now()),
                $2 OR NOT EXISTS (
                    SELECT FROM saga.lane leader JOIN saga.lane theirs USING (owner)
                     WHERE leader.slot = 0 AND leader.lease_expires_at > now() AND leader.owner <> $3
                       AND theirs.plugin = $1 AND theirs.kind = 'kafka' AND theirs.lease_expires_at > now()),
                (SELECT coalesce(min(CASE WHEN reads_owner = owner THEN reads_format ELSE 0 END), 0)
                   FROM saga.lane l
                  WHERE lease_expires_at > now()
                    AND (slot > 0 OR NOT EXISTS (SELECT FROM saga.lane o
                                                  WHERE o.slot > 0 AND o.owner = l.owner
                                                    AND o.lease_expires_at > now())))",
    )
    .bind(plugin)
    .bind(duties.leads)
    .bind(&duties.host_id)
    .fetch_one(pool)
    .await?;
    Ok(Kinds { any_parked, any_timer, any_deadline, leads, reads_max })
}

/// The first parked delivery of each key, when its retry is due or it was never tried.
async fn parked(
    pool: &PgPool,
    plugin: &str,
    duties: &Duties,
    leads: bool,
    limit: u32,
) -> anyhow::Result<Vec<(i64, Result<Delivery, Unreadable>)>> {
    let topics: Vec<&str> = duties.positions.iter().map(|(topic, _, _)| &**topic).collect();
    let partitions: Vec<i32> = duties.positions.iter().map(|(_, partition, _)| *partition).collect();
    let rows: Vec<(i64, Vec<u8>, i32)> = sqlx::query_as(
        "SELECT id, body, attempts FROM (
             SELECT DISTINCT ON (topic, partition, coalesce(key, id::text)) id, body, attempts, retry_at
               FROM saga.parked h
              WHERE plugin = $1 AND direction = 'in'
                AND (EXISTS (SELECT FROM unnest($2::text[], $3::int[]) o (topic, partition)
                              WHERE o.topic = h.topic AND o.partition = h.partition)
                     OR ($4 AND partition < 0))
              ORDER BY topic, partition, coalesce(key, id::text), id) first
         WHERE (attempts = 0 OR retry_at <= now()) AND id <> ALL ($6) ORDER BY id LIMIT $5",
    )
    .bind(plugin)
    .bind(topics)
    .bind(partitions)
    .bind(leads)
    .bind(i64::from(limit))
    .bind(&duties.unreadable)
    .fetch_all(pool)
    .await?;
    let read = |(id, body, attempts): (i64, Vec<u8>, i32)| {
        let attempt = u32::try_from(attempts).unwrap_or(0) + 1;
        (id, Delivery::decode(&body).map(|read| Delivery { parked_id: Some(id), attempt, ..read }))
    };
    Ok(rows.into_iter().map(read).collect())
}

async fn timers(pool: &PgPool, plugin: &str, limit: u32) -> anyhow::Result<Vec<Delivery>> {
    let rows: Vec<(String, Option<String>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT name, correlation, payload, (extract(epoch FROM due_at) * 1000000)::bigint FROM saga.timer
          WHERE plugin = $1 AND due_at <= now() ORDER BY due_at, name LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(plugin)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let delivery = |(name, correlation, payload, due_us): (String, Option<String>, Vec<u8>, i64)| Delivery {
        id: format!("timer/{name}/{due_us}"),
        payload: Some(payload),
        correlation: correlation.map(indexable),
        ..Delivery::bare(Origin::Timer { name }, due_us)
    };
    Ok(rows.into_iter().map(delivery).collect())
}

async fn deadlines(pool: &PgPool, plugin: &str, limit: u32) -> anyhow::Result<Vec<Delivery>> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT type, key, revision, (extract(epoch FROM next_at) * 1000000)::bigint FROM saga.saga_live
          WHERE plugin = $1 AND next_at <= now() ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(plugin)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let delivery = |(saga_type, key, revision, due_us): (String, String, i64, i64)| Delivery {
        id: deadline_id(&saga_type, &key, revision),
        correlation: Some(key.clone()),
        ..Delivery::bare(Origin::Deadline { saga_type, key, revision }, due_us)
    };
    Ok(rows.into_iter().map(delivery).collect())
}
