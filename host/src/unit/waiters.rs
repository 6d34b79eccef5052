//! HTTP callers that wait for the end of a saga (`Prefer: wait`).
//!
//! A caller is registered after the commit that starts its saga, and before anyone can see the first record
//! of it, so its end cannot be missed. The lanes of this host report the sagas that they end. Ends on other
//! hosts, and earlier ends, are read from `saga.saga_done`.

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

/// The interval in which ends are polled: another host may have died before it notified its peers of one.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// The most sagas that one poll reads.
const POLL_SAGAS_MAX: usize = 1_000;

/// The waiting callers of one plugin.
#[derive(Debug)]
pub struct Waiters {
    admin: PgPool,
    notifier: Arc<Notifier>,
    waiting: Mutex<Waiting>,
    /// Outside the map, so that a lane takes no lock when there are no callers.
    count: AtomicUsize,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By type, then by key, so that a look-up copies neither.
    sagas: HashMap<String, HashMap<String, AwaitedSaga>>,
    polled: bool,
}

#[derive(Debug)]
struct AwaitedSaga {
    callers: Vec<oneshot::Sender<Option<String>>>,
    poll_at: Instant,
    /// Whether it started while its callers were waiting. If so, it ends today or later.
    is_new: bool,
}

/// Sagas whose end is due to be polled.
#[derive(Debug, Default)]
struct Due {
    types: Vec<String>,
    keys: Vec<String>,
    /// Whether some of them may have ended on an earlier day.
    any_day: bool,
}

/// Resolves when the saga has ended.
#[derive(Debug)]
pub struct Wait(oneshot::Receiver<Option<String>>);

impl Wait {
    /// Waits for the end: the `finish.answer` of the saga, if it has one. None when `until` has passed.
    pub async fn end(self, until: tokio::time::Instant) -> Option<Option<String>> {
        tokio::time::timeout_at(until, self.0).await.ok()?.ok()
    }
}

impl Waiters {
    /// Waiters without a caller. `admin` is a pool with the host's own account in the plugin's database;
    /// `notifier` reaches the peers of this host.
    #[must_use]
    pub fn new(admin: PgPool, notifier: Arc<Notifier>) -> Arc<Self> {
        let (waiting, count, wake) = (Mutex::default(), AtomicUsize::new(0), Notify::new());
        Arc::new(Self { admin, notifier, waiting, count, wake })
    }

    /// Registers a caller whose answer is `response`; none when the answer names no saga or is not a 2xx.
    /// `is_new` means that the saga started in the unit just committed. Otherwise it may have ended long ago,
    /// and is polled at once.
    ///
    /// Must be called after the commit, before [`Self::ended`] and before the relay gets the unit.
    pub fn wait(self: &Arc<Self>, response: &Response, is_new: bool) -> Option<Wait> {
        let (saga_type, key) = response.saga.as_ref().filter(|_| (200..300).contains(&response.status))?;
        let (sender, receiver) = oneshot::channel();
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let poll_at = now + POLL_EVERY;
        let saga = waiting
            .sagas
            .entry(saga_type.clone())
            .or_default()
            .entry(key.clone())
            .or_insert_with(|| AwaitedSaga { callers: Vec::with_capacity(1), poll_at, is_new });
        saga.callers.push(sender);
        if !is_new {
            saga.poll_at = now;
            saga.is_new = false;
            self.wake.notify_one();
        }
        self.count.fetch_add(1, Ordering::Release);
        if !std::mem::replace(&mut waiting.polled, true) {
            tokio::spawn(Arc::clone(self).poll(self.notifier.subscribe_saga_ends()));
        }
        Some(Wait(receiver))
    }

    /// A unit of this host has ended this saga: answers the callers that wait for it. When there are none,
    /// notifies the other hosts, since a caller may wait there. Where callers wait on both, those on the
    /// other host find the end by polling.
    pub fn ended(&self, saga_type: &str, key: &str, answer: Option<&str>) {
        if !self.answer(saga_type, key, answer) {
            self.notifier.notify_saga_ended(saga_type, key);
        }
    }

    /// Answers the callers of a saga. Returns whether there were any.
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

    /// Polls for ends while there are callers.
    async fn poll(self: Arc<Self>, mut ends: broadcast::Receiver<Arc<[SagaName]>>) {
        let _again = PolledAgain(&self);
        loop {
            let Some(due) = self.due() else { return };
            if !due.keys.is_empty() {
                self.look_up(&due).await;
            }
            // When the poll was full, more may be due.
            if due.keys.len() < POLL_SAGAS_MAX {
                let _elapsed = tokio::time::timeout(POLL_EVERY, self.wait_for_report(&mut ends)).await;
            }
        }
    }

    /// Waits until a saga is due to be polled.
    async fn wait_for_report(&self, ends: &mut broadcast::Receiver<Arc<[SagaName]>>) {
        loop {
            tokio::select! {
                reported = ends.recv() => match reported {
                    Ok(reported) => if self.report(&reported) { return },
                    // Polling finds the ends of lost notifications.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {}
                },
                () = self.wake.notified() => return,
            }
        }
    }

    /// Another host has ended these sagas: makes those with callers here due at once. Returns whether there
    /// are any.
    fn report(&self, ended: &[SagaName]) -> bool {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let mut any = false;
        for (saga_type, key) in ended {
            if let Some(saga) = waiting.sagas.get_mut(saga_type).and_then(|keys| keys.get_mut(key)) {
                saga.poll_at = now;
                any = true;
            }
        }
        any
    }

    /// Removes callers that have gone. Returns the sagas to poll now; none when there are no callers: then
    /// the next registration starts a new poll.
    fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let mut due = Due::default();
        let mut waiting = self.waiting.lock();
        let again_at = now + POLL_EVERY;
        let mut gone = 0;
        for (saga_type, keys) in &mut waiting.sagas {
            keys.retain(|key, saga| {
                let before = saga.callers.len();
                saga.callers.retain(|caller| !caller.is_closed());
                gone += before - saga.callers.len();
                if !saga.callers.is_empty() && saga.poll_at <= now && due.keys.len() < POLL_SAGAS_MAX {
                    saga.poll_at = again_at;
                    due.types.push(saga_type.clone());
                    due.keys.push(key.clone());
                    due.any_day |= !saga.is_new;
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
        // LATERAL fixes the plan: one index probe for each saga, where a join would read whole partitions.
        let ended: Result<Vec<(String, String, Option<String>)>, _> = sqlx::query_as(
            "SELECT w.type, w.key, d.answer FROM unnest($1::text[], $2::text[]) w (type, key)
              CROSS JOIN LATERAL (
                 SELECT answer FROM saga.saga_done d
                  WHERE d.type = w.type AND d.key = w.key AND d.day <= (now() AT TIME ZONE 'UTC')::date
                    AND d.day >= CASE WHEN $3 THEN '-infinity' ELSE (now() AT TIME ZONE 'UTC')::date - 1 END
                  ORDER BY d.day DESC, d.started_at DESC LIMIT 1) d
              WHERE NOT EXISTS (SELECT FROM saga.saga_live l WHERE l.type = w.type AND l.key = w.key)",
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
                tracing::debug!(%error, "cannot read the ends of {} sagas, retrying", due.keys.len())
            }
        }
    }
}

/// After a poll that panics, the next registration starts another one.
struct PolledAgain<'a>(&'a Waiters);

impl Drop for PolledAgain<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting.lock().polled = false;
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

    /// Without a database: polls fail and are retried.
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
    async fn all_callers_that_wait_for_a_saga_get_its_end() {
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
    async fn a_refusal_or_an_answer_without_a_saga_is_not_awaited() {
        let waiters = waiters();
        assert!(waiters.wait(&Response { status: 200, ..Response::default() }, true).is_none());
        assert!(waiters.wait(&answer(409, "a"), true).is_none());
        assert!(!waiters.waiting.lock().polled);
    }

    #[tokio::test]
    async fn a_saga_is_polled_at_once_when_another_host_reports_its_end() {
        let waiters = waiters();
        let _wait = waiters.wait(&answer(201, "a"), true).unwrap();
        let _other = waiters.wait(&answer(201, "b"), true).unwrap();
        assert_eq!(waiters.due().unwrap().keys, [""; 0]);
        let elsewhere = ("order".to_owned(), "of-another-host".to_owned());
        assert!(!waiters.report(std::slice::from_ref(&elsewhere)));
        assert!(waiters.report(&[elsewhere, ("order".into(), "a".into())]));
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
