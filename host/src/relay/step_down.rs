//! A leader that is cut off from Kafka passes the lead to a host that is not.
//!
//! ```text
//!  leader: nothing acknowledged for 10 s ──▶ saga.relay_stall ──▶ other hosts: does the partition's broker
//!  answer? ──▶ candidate ──▶ leader: does it answer me? no ──▶ gives up the lead, stands aside for a while
//! ```
//!
//! Without a candidate the leader keeps the lead. When the broker answers the leader, too, the cause is not
//! the connection, and another leader could do no better.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgExecutor;

use super::in_flight::Place;

/// How long Kafka acknowledges nothing, although records wait, before the leader asks for a candidate.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long a host that has given up the lead does not stand for election.
pub(super) const STAND_ASIDE: Duration = Duration::from_secs(5);
/// How long an entry in the database is valid: both sides repeat theirs more often.
const VALID_MS: i64 = 5_000;

/// A stalled leader, as another host sees it.
#[derive(Debug)]
pub(super) struct Stall {
    leader_epoch: i64,
    /// Where the lowest record waits.
    pub(super) place: Place,
}

/// The leader reports a stall; returns whether another host reaches the partition's broker.
pub(super) async fn report_stall(
    database: impl PgExecutor<'_>,
    leader_epoch: i64,
    (topic, partition): &Place,
) -> anyhow::Result<bool> {
    sqlx::query_scalar(
        "UPDATE saga.relay_stall
            SET candidate = CASE WHEN leader_epoch = $1 THEN candidate END,
                leader_epoch = $1, topic = $2, partition = $3, stalled_at = now()
         RETURNING coalesce(candidate IS NOT NULL AND offered_at > now() - $4 * interval '1 ms', false)",
    )
    .bind(leader_epoch)
    .bind(topic)
    .bind(partition)
    .bind(VALID_MS)
    .fetch_one(database)
    .await
    .context("reporting that the relay has stalled")
}

/// The stall of the present leader, if there is one.
pub(super) async fn read_stall(database: impl PgExecutor<'_>) -> anyhow::Result<Option<Stall>> {
    let stall: Option<(i64, String, i32)> = sqlx::query_as(
        "SELECT s.leader_epoch, s.topic, s.partition
           FROM saga.relay_stall s JOIN saga.lane l ON l.slot = 0 AND l.epoch = s.leader_epoch
          WHERE s.stalled_at > now() - $1 * interval '1 ms'",
    )
    .bind(VALID_MS)
    .fetch_optional(database)
    .await
    .context("reading whether the relay has stalled")?;
    Ok(stall.map(|(leader_epoch, topic, partition)| Stall { leader_epoch, place: (topic, partition) }))
}

/// Another host offers to lead.
pub(super) async fn offer(database: impl PgExecutor<'_>, stall: &Stall, owner: &str) -> anyhow::Result<()> {
    sqlx::query("UPDATE saga.relay_stall SET candidate = $2, offered_at = now() WHERE leader_epoch = $1")
        .bind(stall.leader_epoch)
        .bind(owner)
        .execute(database)
        .await
        .context("offering to lead the relay")
        .map(drop)
}
