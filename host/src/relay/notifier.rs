//! Notifies the other hosts on one database, its peers, by Postgres NOTIFY:
//!
//! ```text
//!  a host that does not lead commits records ── saga_outbox ──▶ the leader reads the outbox
//!  a host ends sagas ── saga_ended (types and keys) ──▶ all hosts answer callers that wait for one of them
//! ```
//!
//! Notifications are hints only: one can be lost, for example when a host dies before it sends it. So every
//! host also polls.
//!
//! After a notification the notifier pauses for as long as a unit of a lane takes, which is longer on a
//! busier machine, and the leader pauses as long between two reads of the outbox. What is committed meanwhile
//! shares one notification, one read, and one request to Kafka.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::{Notify, broadcast};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The leader is to read the outbox.
const OUTBOX_CHANNEL: &str = "saga_outbox";
/// Sagas have ended.
const SAGA_ENDED_CHANNEL: &str = "saga_ended";
/// Postgres accepts payloads below 8,000 bytes.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// Ended sagas that wait to be notified, at most. Callers find the others by polling.
const PENDING_SAGA_ENDS_MAX: usize = 10_000;
/// Received notifications that a slow subscriber may lag behind, at most.
const UNREAD_NOTIFICATIONS_MAX: usize = 64;
/// Pause before listening again after an error.
const LISTEN_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Type and key of a saga.
pub type SagaName = (String, String);

/// The connection of this host to its peers on one database.
#[derive(Debug)]
pub struct Notifier {
    pool: PgPool,
    has_peers: AtomicBool,
    /// The duration of a unit of a lane of this host, in microseconds.
    unit_us: AtomicU64,
    pending: Mutex<PendingNotifications>,
    /// Notified when `pending` or `has_peers` changes.
    changed: Notify,
    peer_has_committed: AtomicBool,
    /// Notified when a peer has committed.
    committed: Arc<Notify>,
    saga_ends: broadcast::Sender<Arc<[SagaName]>>,
}

/// What is to be sent with the next notification.
#[derive(Debug, Default)]
struct PendingNotifications {
    committed: bool,
    ended: Vec<SagaName>,
}

impl Notifier {
    /// A notifier without peers. `pool` uses the host's own account. `committed` is notified when a peer has
    /// committed.
    #[must_use]
    pub fn new(pool: PgPool, committed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            has_peers: AtomicBool::new(false),
            unit_us: AtomicU64::new(0),
            pending: Mutex::default(),
            changed: Notify::new(),
            peer_has_committed: AtomicBool::new(false),
            committed,
            saga_ends: broadcast::Sender::new(UNREAD_NOTIFICATIONS_MAX),
        })
    }

    /// Whether other hosts work on this database.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.has_peers.load(Ordering::Acquire)
    }

    /// Starts or stops notifying and listening. Returns whether this is a change.
    pub(crate) fn set_has_peers(&self, has_peers: bool) -> bool {
        let changed = self.has_peers.swap(has_peers, Ordering::AcqRel) != has_peers;
        if changed {
            self.changed.notify_one();
        }
        changed
    }

    /// Sets the duration of a unit of a lane of this host, hence the [pause](Self::pause).
    pub(crate) fn set_unit_duration(&self, unit: Duration) {
        self.unit_us.store(u64::try_from(unit.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Pause between two notifications, and between two reads of the outbox that peers have asked for.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_micros(self.unit_us.load(Ordering::Relaxed))
    }

    /// Notifies the leader that there are new records in the outbox.
    pub(crate) fn notify_committed(&self) {
        if self.has_peers() {
            self.pending.lock().committed = true;
            self.changed.notify_one();
        }
    }

    /// Notifies the peers, whose callers may wait for this saga, that it has ended.
    pub(crate) fn notify_saga_ended(&self, saga_type: &str, key: &str) {
        if !self.has_peers() {
            return;
        }
        let mut pending = self.pending.lock();
        if pending.ended.len() < PENDING_SAGA_ENDS_MAX {
            pending.ended.push((saga_type.to_owned(), key.to_owned()));
        }
        self.changed.notify_one();
    }

    /// Whether a peer has committed since the last [`Self::begin_outbox_read`].
    pub(crate) fn peer_has_committed(&self) -> bool {
        self.peer_has_committed.load(Ordering::Acquire)
    }

    /// Call before the outbox is read: the read finds what peers have committed until now.
    pub(crate) fn begin_outbox_read(&self) {
        self.peer_has_committed.store(false, Ordering::Release);
    }

    /// The sagas that peers end from now on.
    pub(crate) fn subscribe_saga_ends(&self) -> broadcast::Receiver<Arc<[SagaName]>> {
        self.saga_ends.subscribe()
    }

    /// Notifies and listens while there are peers, until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut listening = None;
        loop {
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
            let pending = std::mem::take(&mut *self.pending.lock());
            if !self.has_peers() {
                listening = None;
                continue;
            }
            listening.get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(self.clone().listen())));
            if let Err(error) = self.send(&pending).await {
                tracing::debug!(reason = %error, "cannot notify the other hosts, they poll");
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    async fn send(&self, pending: &PendingNotifications) -> anyhow::Result<()> {
        let mut channels = Vec::new();
        let mut payloads = Vec::new();
        if pending.committed {
            channels.push(OUTBOX_CHANNEL);
            payloads.push(String::new());
        }
        for payload in payloads_of(&pending.ended) {
            channels.push(SAGA_ENDED_CHANNEL);
            payloads.push(payload);
        }
        if channels.is_empty() {
            return Ok(());
        }
        // A notification is of no use after a crash of the server, so the commit does not wait for the disk.
        sqlx::query(
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify(channel, payload)
               FROM unnest($1::text[], $2::text[]) AS notification (channel, payload)",
        )
        .bind(channels)
        .bind(payloads)
        .execute(&self.pool)
        .await
        .context("notifying the other hosts")
        .map(drop)
    }

    async fn listen(self: Arc<Self>) {
        loop {
            let Err(error) = self.receive().await;
            tracing::debug!(
                reason = %error,
                "cannot receive notifications of other hosts, retrying in {LISTEN_RETRY_PAUSE:?}"
            );
            tokio::time::sleep(LISTEN_RETRY_PAUSE).await;
        }
    }

    async fn receive(&self) -> Result<Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all([OUTBOX_CHANNEL, SAGA_ENDED_CHANNEL]).await?;
        loop {
            self.receive_committed();
            // None after an interruption: a notification may have been lost.
            while let Some(notification) = listener.try_recv().await? {
                if notification.channel() == SAGA_ENDED_CHANNEL {
                    self.receive_saga_ends(notification.payload());
                } else {
                    self.receive_committed();
                }
            }
        }
    }

    fn receive_committed(&self) {
        self.peer_has_committed.store(true, Ordering::Release);
        self.committed.notify_one();
    }

    fn receive_saga_ends(&self, payload: &str) {
        if self.saga_ends.receiver_count() == 0 {
            return;
        }
        match serde_json::from_str::<Vec<SagaName>>(payload) {
            // It is no error when the last subscriber has gone meanwhile.
            Ok(ends) => drop(self.saga_ends.send(ends.into())),
            Err(error) => {
                tracing::debug!(reason = %error, "cannot read another host's notification of ended sagas");
            }
        }
    }
}

/// JSON arrays of type and key, each short enough for one notification. Leaves out a name that is too long
/// for one.
fn payloads_of(ended: &[SagaName]) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for name in ended {
        let Ok(name) = serde_json::to_string(name) else { continue };
        match payloads.last_mut() {
            Some(payload) if payload.len() + name.len() < PAYLOAD_BYTES_MAX => {
                payload.push(',');
                payload.push_str(&name);
            }
            _ if name.len() + 1 < PAYLOAD_BYTES_MAX => payloads.push(format!("[{name}")),
            _ => {}
        }
    }
    payloads.iter_mut().for_each(|payload| payload.push(']'));
    payloads
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{PAYLOAD_BYTES_MAX, SagaName, payloads_of};

    fn names(keys: impl IntoIterator<Item = String>) -> Vec<SagaName> {
        keys.into_iter().map(|key| ("order".to_owned(), key)).collect()
    }

    #[test]
    fn ended_sagas_share_as_few_notifications_as_fit() {
        for (count, expected) in [(0, 0), (1, 1), (100, 1), (1_000, 7)] {
            let ended = names((0..count).map(|number| format!("{number:036}\"\n")));
            let payloads = payloads_of(&ended);
            assert_eq!(payloads.len(), expected, "{count}");
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
            let received: Vec<SagaName> = payloads
                .iter()
                .flat_map(|payload| serde_json::from_str::<Vec<SagaName>>(payload).unwrap())
                .collect();
            assert_eq!(received, ended);
        }
    }

    #[test]
    fn a_name_too_long_for_a_notification_is_left_out() {
        let ended = names(["a".to_owned(), "x".repeat(PAYLOAD_BYTES_MAX), "b".to_owned()]);
        assert_eq!(payloads_of(&ended).concat(), r#"[["order","a"],["order","b"]]"#);
    }
}
