//! Elects one leader per database: the host that runs its relay and its timers.
//!
//! The leader holds a lease, the row of slot 0 in `saga.lane`. It renews the lease well before the end and
//! checks it on a clock that also counts while the machine is suspended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use sqlx::{PgExecutor, PgPool, Postgres, pool::PoolConnection};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long a lease is valid after its last renewal, hence how long a successor waits after a crash.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(2);
/// How often the leader renews the lease and the other hosts try to acquire it.
pub(super) const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_millis(500);
/// How long one renewal may take before it is tried on another connection.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(1);
const RENEWAL_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The right to publish the outbox of one database, until it expires. A task of its own renews it: a long read
/// or send of the relay's loop does not delay the renewal.
#[derive(Debug)]
pub(super) struct LeaderLease {
    state: Arc<LeaseState>,
    stop: CancellationToken,
    keeper: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct LeaseState {
    epoch: i64,
    /// In nanoseconds on the clock of [`boot_time`].
    expires_at_ns: AtomicU64,
    /// Whether other hosts run lanes on this database.
    has_peers: AtomicBool,
}

/// Time since boot, suspension included.
fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

const HAS_PEERS: &str =
    "EXISTS (SELECT FROM saga.lane o WHERE o.slot > 0 AND o.owner <> $1 AND o.lease_expires_at > now())";

impl LeaderLease {
    /// Acquires the lease for `owner` and keeps it; none while another host holds it.
    pub(super) async fn acquire(database: &PgPool, owner: &str) -> anyhow::Result<Option<Self>> {
        // Before the query, so that this host's view of the lease ends no later than the database's.
        let asked_at = boot_time();
        let acquired: Option<(i64, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane
                SET owner = $1, lease_expires_at = now() + $2 * interval '1 ms',
                    epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
              WHERE slot = 0 AND (lease_expires_at < now() OR owner = $1)
              RETURNING epoch, {HAS_PEERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE_DURATION.as_millis()).unwrap_or(i64::MAX))
        .fetch_optional(database)
        .await
        .context("acquiring the leader lease of the relay")?;
        Ok(acquired.map(|(epoch, has_peers)| {
            let state = LeaseState {
                epoch,
                expires_at_ns: AtomicU64::new(nanos(asked_at + LEASE_DURATION)),
                has_peers: AtomicBool::new(has_peers),
            };
            let (state, stop) = (Arc::new(state), CancellationToken::new());
            let keep = state.clone().keep(database.clone(), owner.to_owned(), stop.clone());
            Self { state, stop, keeper: AbortOnDropHandle::new(tokio::spawn(keep)) }
        }))
    }

    /// Ends the lease, so that another host can acquire it at once.
    pub(super) async fn release(self, database: impl PgExecutor<'_>) -> anyhow::Result<()> {
        self.stop.cancel();
        // Only a panic is an error here, and the lease then ends by itself.
        let _ended = self.keeper.await;
        sqlx::query("UPDATE saga.lane SET lease_expires_at = '-infinity' WHERE slot = 0 AND epoch = $1")
            .bind(self.state.epoch)
            .execute(database)
            .await
            .context("releasing the leader lease of the relay")
            .map(drop)
    }

    /// Whether the lease has not expired. Check it before each send.
    pub(super) fn is_valid(&self) -> bool {
        nanos(boot_time()) < self.state.expires_at_ns.load(Ordering::Acquire)
    }

    /// Whether other hosts run lanes on this database.
    pub(super) fn has_peers(&self) -> bool {
        self.state.has_peers.load(Ordering::Acquire)
    }

    /// The number of this leadership.
    pub(super) fn epoch(&self) -> i64 {
        self.state.epoch
    }
}

impl LeaseState {
    /// Renews the lease until `stop`, or until another host has acquired it.
    async fn keep(self: Arc<Self>, pool: PgPool, owner: String, stop: CancellationToken) {
        let mut connection = None;
        let mut pause = LEASE_RENEWAL_INTERVAL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            match timeout(RENEWAL_TIMEOUT, self.renew(&pool, &mut connection, &owner)).await {
                Ok(Ok(true)) => pause = LEASE_RENEWAL_INTERVAL,
                Ok(Ok(false)) => return self.expires_at_ns.store(0, Ordering::Release),
                failed => {
                    let reason = failed.map_or_else(
                        |_| format!("no answer within {RENEWAL_TIMEOUT:?}"),
                        |renewed| renewed.map_or_else(|error| format!("{error:#}"), |_| String::new()),
                    );
                    tracing::debug!(reason, "cannot renew the leader lease of the relay, retrying");
                    connection = None;
                    pause = RENEWAL_RETRY_PAUSE;
                }
            }
        }
    }

    /// Extends the lease; false when another host has acquired it.
    async fn renew(
        &self,
        pool: &PgPool,
        connection: &mut Option<PoolConnection<Postgres>>,
        owner: &str,
    ) -> anyhow::Result<bool> {
        let connection = match connection {
            Some(connection) => connection,
            none => none.insert(pool.acquire().await.context("connecting to Postgres")?),
        };
        let asked_at = boot_time();
        let has_peers: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane SET lease_expires_at = now() + $2 * interval '1 ms'
              WHERE slot = 0 AND epoch = $3 AND owner = $1 RETURNING {HAS_PEERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE_DURATION.as_millis()).unwrap_or(i64::MAX))
        .bind(self.epoch)
        .fetch_optional(&mut **connection)
        .await
        .context("renewing the leader lease of the relay")?;
        let Some(has_peers) = has_peers else { return Ok(false) };
        self.expires_at_ns.store(nanos(asked_at + LEASE_DURATION), Ordering::Release);
        self.has_peers.store(has_peers, Ordering::Release);
        Ok(true)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
