//! How the leader of a database hears of what other hosts have committed: they notify it, once for all that they have committed
//! since the last time. A notification can be missed, as when a host dies before it: the leader also looks by itself.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

const CHANNEL: &str = "saga_outbox";
/// Lost with the machine it is of no use, so it need not wait for the disk.
const NOTIFY: &str = "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY saga_outbox; COMMIT";
/// Before listening is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Tells the host that leads, whichever it is, that there is something in the outbox.
pub(super) async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::raw_sql(NOTIFY).execute(pool).await.context("telling the leader of the relay").map(drop)
}

/// Listens as long as it lives.
pub(super) struct Ear {
    heard: Arc<AtomicBool>,
    _listening: AbortOnDropHandle<()>,
}

impl Ear {
    /// Each time that something is heard, `wake` is notified.
    pub(super) fn open(pool: &PgPool, wake: &Arc<Notify>) -> Self {
        let heard = Arc::new(AtomicBool::new(false));
        let listening = tokio::spawn(listen(pool.clone(), heard.clone(), wake.clone()));
        Self { heard, _listening: AbortOnDropHandle::new(listening) }
    }

    /// Whether something was heard since the last time.
    pub(super) fn heard(&self) -> bool {
        self.heard.swap(false, Ordering::AcqRel)
    }
}

async fn listen(pool: PgPool, heard: Arc<AtomicBool>, wake: Arc<Notify>) {
    loop {
        let Err(error) = hear(&pool, &heard, &wake).await;
        tracing::debug!(%error, "not told of what other hosts commit; listening again");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn hear(pool: &PgPool, heard: &AtomicBool, wake: &Notify) -> Result<Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Also at first, and after each interruption: something may have been missed.
        heard.store(true, Ordering::Release);
        wake.notify_one();
        listener.try_recv().await?;
    }
}
