//! What the hosts on one database tell each other, by NOTIFY:
//!
//! ```text
//!  a host that does not lead ── it has committed ──▶ the leader: look into the outbox
//!  a host that ended a saga  ── its type and key ──▶ all: whoever waits for it, look it up
//! ```
//!
//! Only words that make another host look sooner: one can be missed, as when a host dies before it, and the
//! others also look by themselves.
//!
//! Between two words, and between two looks for what was told, a host rests for as long as the units of its
//! lanes take: longer as the machine gets busier. What is committed meanwhile is told at once, seen at once,
//! and goes to Kafka in one request.

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

const OUTBOX: &str = "saga_outbox";
const ENDED: &str = "saga_ended";
/// Postgres takes less than 8,000.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// Ends that wait to be told, at the most: what is beyond is found without.
const ENDS_MAX: usize = 10_000;
/// Notifications of ends that a slow listener may lag behind.
const HEARD_MAX: usize = 64;
/// Before listening is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Type and key of a saga.
pub type SagaName = (String, String);

/// The other hosts on one database.
#[derive(Debug)]
pub struct Neighbours {
    pool: PgPool,
    present: AtomicBool,
    /// How long the units of a lane take, in microseconds.
    unit_us: AtomicU64,
    news: Mutex<News>,
    /// There is news, or hosts came or went.
    changed: Notify,
    outbox: AtomicBool,
    /// Notified when another host tells that it has committed.
    committed: Arc<Notify>,
    ended: broadcast::Sender<Arc<[SagaName]>>,
}

/// What is to be told.
#[derive(Debug, Default)]
struct News {
    committed: bool,
    ended: Vec<SagaName>,
}

impl Neighbours {
    /// None are known yet. `pool` is of the host's own account; `committed` is notified when another host
    /// tells that it has committed.
    #[must_use]
    pub fn new(pool: PgPool, committed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            present: AtomicBool::new(false),
            unit_us: AtomicU64::new(0),
            news: Mutex::default(),
            changed: Notify::new(),
            outbox: AtomicBool::new(false),
            committed,
            ended: broadcast::Sender::new(HEARD_MAX),
        })
    }

    /// Whether there are any.
    #[must_use]
    pub fn present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// They came, or went. Whether that is news.
    pub(crate) fn set_present(&self, present: bool) -> bool {
        let news = self.present.swap(present, Ordering::AcqRel) != present;
        if news {
            self.changed.notify_one();
        }
        news
    }

    /// How long the units of a lane of this host take now.
    pub(crate) fn units_take(&self, unit: Duration) {
        self.unit_us.store(u64::try_from(unit.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Between two words, or two looks for what was told.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_micros(self.unit_us.load(Ordering::Relaxed))
    }

    /// Tells the leader that there is something in the outbox.
    pub(crate) fn tell_committed(&self) {
        if self.present() {
            self.news.lock().committed = true;
            self.changed.notify_one();
        }
    }

    /// Tells whoever waits for that saga that it has ended.
    pub(crate) fn tell_ended(&self, saga_type: &str, key: &str) {
        if !self.present() {
            return;
        }
        let mut news = self.news.lock();
        if news.ended.len() < ENDS_MAX {
            news.ended.push((saga_type.to_owned(), key.to_owned()));
        }
        self.changed.notify_one();
    }

    /// Whether another host has told that it has committed, since the last look into the outbox.
    pub(crate) fn heard_of_commits(&self) -> bool {
        self.outbox.load(Ordering::Acquire)
    }

    /// A look into the outbox begins: it finds what was told until now.
    pub(crate) fn look(&self) {
        self.outbox.store(false, Ordering::Release);
    }

    /// The ends that others tell from now on.
    pub(crate) fn ends(&self) -> broadcast::Receiver<Arc<[SagaName]>> {
        self.ended.subscribe()
    }

    /// Tells and listens while there are others, until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut listening = None;
        loop {
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
            let news = std::mem::take(&mut *self.news.lock());
            if !self.present() {
                listening = None;
                continue;
            }
            listening.get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(self.clone().listen())));
            if let Err(error) = self.tell(&news).await {
                tracing::debug!(%error, "other hosts were not told; they will look by themselves");
            }
            tokio::time::sleep(self.rest()).await;
        }
    }

    async fn tell(&self, news: &News) -> anyhow::Result<()> {
        let mut channels = Vec::new();
        let mut payloads = Vec::new();
        if news.committed {
            channels.push(OUTBOX);
            payloads.push(String::new());
        }
        for payload in payloads_of(&news.ended) {
            channels.push(ENDED);
            payloads.push(payload);
        }
        if channels.is_empty() {
            return Ok(());
        }
        // Lost with the machine it is of no use, so it need not wait for the disk.
        sqlx::query(
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify(channel, payload)
               FROM unnest($1::text[], $2::text[]) AS told (channel, payload)",
        )
        .bind(channels)
        .bind(payloads)
        .execute(&self.pool)
        .await
        .context("telling the other hosts")
        .map(drop)
    }

    async fn listen(self: Arc<Self>) {
        loop {
            let Err(error) = self.hear().await;
            tracing::debug!(%error, "not told of what other hosts do; listening again");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn hear(&self) -> Result<Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all([OUTBOX, ENDED]).await?;
        loop {
            self.hear_of_commits();
            // None after an interruption: something may have been missed.
            while let Some(told) = listener.try_recv().await? {
                if told.channel() == ENDED {
                    self.hear_of_ends(told.payload());
                } else {
                    self.hear_of_commits();
                }
            }
        }
    }

    fn hear_of_commits(&self) {
        self.outbox.store(true, Ordering::Release);
        self.committed.notify_one();
    }

    fn hear_of_ends(&self, payload: &str) {
        if self.ended.receiver_count() == 0 {
            return;
        }
        match serde_json::from_str::<Vec<SagaName>>(payload) {
            // That nobody waits any more is no error.
            Ok(ends) => drop(self.ended.send(ends.into())),
            Err(error) => {
                tracing::debug!(%error, "a notification of ended sagas that is not of this version")
            }
        }
    }
}

/// JSON arrays of type and key, each short enough for a notification. A name that is too long for one is left
/// out.
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
    fn ends_are_told_in_as_many_notifications_as_they_need() {
        for (count, expected) in [(0, 0), (1, 1), (100, 1), (1_000, 7)] {
            let ended = names((0..count).map(|number| format!("{number:036}\"\n")));
            let payloads = payloads_of(&ended);
            assert_eq!(payloads.len(), expected, "{count}");
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
            let told: Vec<SagaName> = payloads
                .iter()
                .flat_map(|payload| serde_json::from_str::<Vec<SagaName>>(payload).unwrap())
                .collect();
            assert_eq!(told, ended);
        }
    }

    #[test]
    fn a_name_too_long_for_a_notification_does_not_keep_the_others_from_being_told() {
        let ended = names(["a".to_owned(), "x".repeat(PAYLOAD_BYTES_MAX), "b".to_owned()]);
        assert_eq!(payloads_of(&ended).concat(), r#"[["order","a"],["order","b"]]"#);
    }
}
