//! Waits until the system is quiet: nothing to publish, nothing to consume, no saga in flight. Only then do
//! the invariants hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::database::Databases;
use crate::target::Target;
use crate::topic::blocking;
use crate::topic::groups::Groups;

const POLL: Duration = Duration::from_millis(300);
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// The work that is left, one line for each kind; empty when the system is quiet.
pub type Motion = Vec<String>;

/// Waits until two polls in a row find no work left for the five services. After `limit`, returns the work
/// that is still left.
///
/// # Errors
/// Kafka or Postgres does not answer at the end of `limit`.
pub async fn wait(target: &Target, databases: &Databases, limit: Duration) -> Result<Motion> {
    wait_for(Groups::new(&target.kafka)?, databases, limit).await
}

/// The same for these consumer groups and databases.
///
/// # Errors
/// As [`wait`].
pub async fn wait_for(groups: Groups, databases: &Databases, limit: Duration) -> Result<Motion> {
    let groups = Arc::new(groups);
    let began = Instant::now();
    let mut still = 0;
    loop {
        let seen = motion(&groups, databases).await;
        still = if matches!(&seen, Ok(motion) if motion.is_empty()) { still + 1 } else { 0 };
        if still == 2 || began.elapsed() > limit {
            return seen;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Repeats a check until it passes; after `limit`, returns its last failure.
///
/// # Errors
/// The last failure of `check`.
pub async fn eventually<T>(limit: Duration, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match check().await {
            Err(error) if began.elapsed() > limit => {
                return Err(error).with_context(|| format!("after {} s", limit.as_secs()));
            }
            Err(_) => tokio::time::sleep(CHECK_EVERY).await,
            done => return done,
        }
    }
}

async fn motion(groups: &Arc<Groups>, databases: &Databases) -> Result<Motion> {
    let mut motion = Motion::new();
    for database in databases.names() {
        let mut add = |count: i64, what: &str| {
            if count > 0 {
                motion.push(format!("{database}: {count} {what}"));
            }
        };
        add(databases.count(database, "SELECT count(*) FROM saga.outbox").await?, "outbox rows");
        add(databases.count(database, "SELECT count(*) FROM saga.saga_live").await?, "sagas in flight");
        add(
            databases.count(database, "SELECT count(*) FROM saga.parked WHERE retry_at IS NOT NULL").await?,
            "deliveries that wait for a retry",
        );
    }
    let groups = Arc::clone(groups);
    let behind = |(plugin, topic, partition, records): &(&str, &str, i32, i64)| {
        format!("{plugin}: {records} records behind in {topic}/{partition}")
    };
    motion.extend(blocking(move || Ok(groups.lag()?.iter().map(behind).collect::<Vec<_>>())).await?);
    Ok(motion)
}
