//! HTTP callers that wait for the end of a saga (`Prefer: wait`).
//!
//! A caller is registered between the commit that began its saga and the first record of it that anyone can
//! see, so its end cannot be missed: this host's lanes tell of the sagas that they end, and what other hosts
//! tell that they have ended, or what had ended before, is looked up in `saga.saga_done`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
    oneshot,
};

use crate::{
    model::request::Response,
    relay::notifier::{Notifier, SagaName},
};

/// How often an end is looked for without a word of it: another host may have died before it told.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Waits of one look into the database.
const LOOK_MAX: usize = 1_000;

/// Those of one plugin.
#[derive(Debug)]
pub struct Waiters {
    admin: PgPool,
    notifier: Arc<Notifier>,
    waiting: Mutex<Waiting>,
    /// Kept beside the map so that a lane passes by without the lock when nobody waits.
    count: AtomicUsize,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By type, then by key: both are found without being copied.
    sagas: HashMap<String, HashMap<String, Saga>>,
    polled: bool,
}

#[derive(Debug)]
struct Saga {
    callers: Vec<oneshot::Sender<Option<String>>>,
    look_at: Instant,
    /// It began while its callers were here, so its end is of these days.
    begun: bool,
}

/// Sagas to look up.
#[derive(Debug, Default)]
struct Due {
    types: Vec<String>,
    keys: Vec<String>,
    /// Some may have ended long ago.
    any_day: bool,
}

/// The end of a saga, to be awaited.
#[derive(Debug)]
pub struct Wait(oneshot::Receiver<Option<String>>);

impl Wait {
    /// Waits for the end: the `finish.answer` of the saga, if it has one. None when `until` has passed.
    pub async fn end(self, until: tokio::time::Instant) -> Option<Option<String>> {
        tokio::time::timeout_at(until, self.0).await.ok()?.ok()
    }
}

impl Waiters {
    /// Nobody waits yet. `admin` uses the host's own account in the plugin's database; `notifier` reaches its
    /// peers.
    #[must_use]
    pub fn new(admin: PgPool, notifier: Arc<Notifier>) -> Arc<Self> {
        let (waiting, count, wake) = (Mutex::default(), AtomicUsize::new(0), Notify::new());
        Arc::new(Self { admin, notifier, waiting, count, wake })
    }

    /// Registers a caller whose answer is `response`; none when the answer stands for no saga or is
    /// no 2xx. `begun` says that the saga began in the unit just committed: otherwise it may
    /// have ended long ago, and is looked up at once.
    ///
    /// To be called after the commit and before [`Self::ended`] and the relay hear of the unit.
    pub fn wait(self: &Arc<Self>, response: &Response, begun: bool) -> Option<Wait> {
        let (saga_type, key) = response.saga.as_ref().filter(|_| (200..300).contains(&response.status))?;
        let (sender, receiver) = oneshot::channel();
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let look_at = now + LOOK_EVERY;
        let saga = waiting
            .sagas
            .entry(saga_type.clone())
            .or_default()
            .entry(key.clone())
            .or_insert_with(|| Saga { callers: Vec::with_capacity(1), look_at, begun });
        saga.callers.push(sender);
        if !begun {
            saga.look_at = now;
            saga.begun = false;
            self.wake.notify_one();
        }
        self.count.fetch_add(1, Ordering::Release);
        if !std::mem::replace(&mut waiting.polled, true) {
            tokio::spawn(Arc::clone(self).poll(self.notifier.subscribe_saga_ends()));
        }
        Some(Wait(receiver))
    }

    /// Tells those who wait for this saga that a unit of this host has ended it; when nobody does, the other
    /// hosts are told, of which one may have the caller. A second caller, on another host, finds the end by
    /// looking.
    pub fn ended(&self, saga_type: &str, key: &str, answer: Option<&str>) {
        if !self.answer(saga_type, key, answer) {
            self.notifier.notify_saga_ended(saga_type, key);
        }
    }

    /// Whether anybody waited for it.
    fn answer(&self, saga_type: &str, key: &str, answer: Option<&str>) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let saga = self.waiting.lock().sagas.get_mut(saga_type).and_then(|keys| keys.remove(key));
        let Some(saga) = saga else { return false };
        for caller in saga.callers {
            self.count.fetch_sub(1, Ordering::Release);
            // A caller that has gone needs no answer.
            let _gone = caller.send(answer.map(str::to_owned));
        }
        true
    }

    /// Looks the ends up while anybody waits.
    async fn poll(self: Arc<Self>, mut ends: broadcast::Receiver<Arc<[SagaName]>>) {
        loop {
            let Some(due) = self.due() else { return };
            if !due.keys.is_empty() {
                self.look_up(&due).await;
            }
            // More of them may be due.
            if due.keys.len() < LOOK_MAX {
                let _elapsed = tokio::time::timeout(LOOK_EVERY, self.news(&mut ends)).await;
            }
        }
    }

    /// Waits until there is a saga to look up.
    async fn news(&self, ends: &mut broadcast::Receiver<Arc<[SagaName]>>) {
        loop {
            tokio::select! {
                told = ends.recv() => match told {
                    Ok(told) => if self.told(&told) { return },
                    // Those are found without.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {}
                },
                () = self.wake.notified() => return,
            }
        }
    }

    /// Another host has ended these sagas: those that somebody waits for are to be looked up at once. Whether
    /// there are any.
    fn told(&self, ended: &[SagaName]) -> bool {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let mut any = false;
        for (saga_type, key) in ended {
            if let Some(saga) = waiting.sagas.get_mut(saga_type).and_then(|keys| keys.get_mut(key)) {
                saga.look_at = now;
                any = true;
            }
        }
        any
    }

    /// Forgets the callers that have gone; the sagas to look up now. None when nobody waits: then the
    /// next registration starts a new poll.
    fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let mut due = Due::default();
        let mut waiting = self.waiting.lock();
        let again_at = now + LOOK_EVERY;
        let mut gone = 0;
        for (saga_type, keys) in &mut waiting.sagas {
            keys.retain(|key, saga| {
                let before = saga.callers.len();
                saga.callers.retain(|caller| !caller.is_closed());
                gone += before - saga.callers.len();
                if !saga.callers.is_empty() && saga.look_at <= now && due.keys.len() < LOOK_MAX {
                    saga.look_at = again_at;
                    due.types.push(saga_type.clone());
                    due.keys.push(key.clone());
                    due.any_day |= !saga.begun;
                }
                !saga.callers.is_empty()
            });
        }
        self.count.fetch_sub(gone, Ordering::Release);
        waiting.sagas.retain(|_, keys| !keys.is_empty());
        if waiting.sagas.is_empty() {
            waiting.polled = false;
            return None;
        }
        Some(due)
    }

    async fn look_up(&self, due: &Due) {
        // One by one, in the partitions of these days: as a join it would be planned to read them whole.
        let ended: Result<Vec<(String, String, Option<String>)>, _> = sqlx::query_as(
            "SELECT w.type, w.key, d.answer FROM unnest($1::text[], $2::text[]) w (type, key) CROSS JOIN LATERAL (
                 SELECT answer FROM saga.saga_done d
                  WHERE d.type = w.type AND d.key = w.key AND d.day <= (now() AT TIME ZONE 'UTC')::date
                    AND d.day >= CASE WHEN $3 THEN '-infinity' ELSE (now() AT TIME ZONE 'UTC')::date - 1 END
                  LIMIT 1) d",
        )
        .bind(&due.types)
        .bind(&due.keys)
        .bind(due.any_day)
        .fetch_all(&self.admin)
        .await;
        match ended {
            Ok(ended) => {
                for (saga_type, key, answer) in &ended {
                    self.answer(saga_type, key, answer.as_deref());
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot look up the ends of {} sagas; trying again", due.keys.len())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use tokio::time::Instant;

    use super::{Notifier, Response, Waiters};

    /// Without a database: look-ups fail and are tried again.
    fn waiters() -> Arc<Waiters> {
        let nowhere = PgConnectOptions::new().host("127.0.0.1").port(1);
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(50)).connect_lazy_with(nowhere);
        Waiters::new(pool.clone(), Notifier::new(pool, Arc::default()))
    }

    fn answer(status: u16, key: &str) -> Response {
        Response { status, saga: Some(("order".into(), key.into())), ..Response::default() }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn all_who_wait_for_a_saga_hear_of_its_end() {
        let waiters = waiters();
        let first = waiters.wait(&answer(201, "a"), true).unwrap();
        let second = waiters.wait(&answer(200, "a"), false).unwrap();
        let other = waiters.wait(&answer(201, "b"), true).unwrap();
        waiters.ended("order", "a", Some("{}"));
        waiters.ended("payment", "b", None);
        assert_eq!(first.end(soon()).await, Some(Some("{}".into())));
        assert_eq!(second.end(soon()).await, Some(Some("{}".into())));
        assert_eq!(other.end(soon()).await, None);
    }

    #[tokio::test]
    async fn nobody_waits_for_an_answer_without_a_saga_or_a_refusal() {
        let waiters = waiters();
        assert!(waiters.wait(&Response { status: 200, ..Response::default() }, true).is_none());
        assert!(waiters.wait(&answer(409, "a"), true).is_none());
        assert!(!waiters.waiting.lock().polled);
    }

    #[tokio::test]
    async fn a_saga_is_looked_up_at_once_when_another_host_tells_that_it_ended() {
        let waiters = waiters();
        let _wait = waiters.wait(&answer(201, "a"), true).unwrap();
        let _other = waiters.wait(&answer(201, "b"), true).unwrap();
        assert_eq!(waiters.due().unwrap().keys, [""; 0]);
        let elsewhere = ("order".to_owned(), "of-another-host".to_owned());
        assert!(!waiters.told(std::slice::from_ref(&elsewhere)));
        assert!(waiters.told(&[elsewhere, ("order".into(), "a".into())]));
        assert_eq!(waiters.due().unwrap().keys, ["a"]);
    }

    #[tokio::test]
    async fn the_poll_ends_with_the_last_caller() {
        let waiters = waiters();
        drop(waiters.wait(&answer(201, "a"), true));
        while waiters.waiting.lock().polled {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(waiters.count.load(std::sync::atomic::Ordering::Acquire), 0);
    }
}
