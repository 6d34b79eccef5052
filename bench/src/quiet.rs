//! Waits for the quiet moment at which the invariants hold: nothing to publish, nothing to consume, no saga
//! in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::database::Databases;
use crate::service::SERVICES;
use crate::target::Target;
use crate::topic::blocking;
use crate::topic::groups::Groups;

const POLL: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What still moves, one line each; empty at a quiet moment.
pub type Motion = Vec<String>;

/// Waits until two looks in a row saw no motion. Gives what still moved when `limit` was over, else nothing.
///
/// # Errors
/// Kafka or Postgres cannot be asked for the whole time.
pub async fn wait(target: &Target, databases: &Databases, limit: Duration) -> Result<Motion> {
    let groups = Arc::new(Groups::new(&target.kafka)?);
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

/// Repeats a look until it holds; when `limit` is over, its last failure counts.
///
/// # Errors
/// The last of `look`.
pub async fn eventually<T>(limit: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match look().await {
            Err(error) if began.elapsed() > limit => {
                return Err(error).with_context(|| format!("after {} s", limit.as_secs()));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            done => return done,
        }
    }
}

async fn motion(groups: &Arc<Groups>, databases: &Databases) -> Result<Motion> {
    let mut motion = Motion::new();
    for service in SERVICES {
        let database = service.database;
        let mut look = |count: i64, what: &str| {
            if count > 0 {
                motion.push(format!("{database}: {count} {what}"));
            }
        };
        look(databases.count(database, "SELECT count(*) FROM saga.outbox").await?, "outbox rows");
        look(databases.count(database, "SELECT count(*) FROM saga.saga_live").await?, "sagas in flight");
        look(
            databases.count(database, "SELECT count(*) FROM saga.parked WHERE retry_at IS NOT NULL").await?,
            "deliveries that wait for a retry",
        );
    }
    let groups = Arc::clone(groups);
    for (plugin, topic, partition, records) in blocking(move || groups.lag()).await? {
        motion.push(format!("{plugin}: {records} records behind in {topic}/{partition}"));
    }
    Ok(motion)
}
