//! Supervises the long-lived tasks of a host: none ends unnoticed.
//!
//! A task that ends by a panic, an error or an early return while the host is not stopping is logged, shown in
//! `readyz`, and started again after a pause. Where a task cannot be started again, the host stops.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// When tasks are started again.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    /// Before the first restart; each further one doubles it.
    first: Duration,
    longest: Duration,
    /// A task that has run for this long works.
    works_after: Duration,
}

const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
    works_after: Duration::from_secs(5),
};

/// Watches the tasks of one host. Clones watch the same ones.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// Why a task has ended that does not work again yet, by the name of the task.
    ended: Arc<Mutex<BTreeMap<String, String>>>,
    fatal: CancellationToken,
    pauses: Pauses,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { ended: Arc::default(), fatal: CancellationToken::new(), pauses: PAUSES }
    }
}

impl Supervisor {
    /// The tasks that do not work now, each with the reason.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        self.ended.lock().iter().map(|(task, reason)| (task.clone(), reason.clone())).collect()
    }

    /// Cancelled when a task has ended that cannot be started again: the host must stop.
    #[must_use]
    pub fn fatal(&self) -> &CancellationToken {
        &self.fatal
    }

    /// Runs a task until `stop`, and starts it again whenever it ends earlier. `name` is what an operator
    /// reads.
    pub async fn keep<F>(self, name: String, stop: CancellationToken, mut start: impl FnMut() -> F)
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let mut pause = self.pauses.first;
        loop {
            let task = AssertUnwindSafe(async { start().await }).catch_unwind();
            tokio::pin!(task);
            let ended = tokio::select! {
                ended = &mut task => ended,
                () = tokio::time::sleep(self.pauses.works_after) => {
                    self.works(&name);
                    pause = self.pauses.first;
                    task.await
                }
            };
            if stop.is_cancelled() {
                return;
            }
            let reason = why(ended);
            let pause_s = pause.as_secs();
            tracing::error!(pause_s, reason, "the {name} has ended; it is started again");
            self.ended.lock().insert(name.clone(), format!("it has ended and is started again: {reason}"));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(self.pauses.longest);
        }
    }

    /// Runs a task that cannot be started again: the host stops when it ends before `stop`.
    pub async fn rely_on(
        self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = anyhow::Result<()>>,
    ) {
        let ended = AssertUnwindSafe(task).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        let reason = why(ended);
        tracing::error!(reason, "the {name} has ended; the host stops, start it again");
        self.ended.lock().insert(name.to_owned(), format!("it has ended, the host stops: {reason}"));
        self.fatal.cancel();
    }

    fn works(&self, name: &str) {
        if self.ended.lock().remove(name).is_some() {
            tracing::info!("the {name} works again");
        }
    }
}

fn why(ended: Result<anyhow::Result<()>, Box<dyn Any + Send>>) -> String {
    match ended {
        Ok(Ok(())) => "it returned early".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a message"))
}

/// Runs blocking work on a thread of its own, and waits for its end.
///
/// # Errors
/// The work fails or panics, or the system cannot start a thread.
pub async fn on_thread(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(work));
            // Nobody waits for it when the host has stopped.
            let _not_awaited = sender.send(ended.unwrap_or_else(|panic| Err(anyhow!(panicked(&*panic)))));
        })
        .with_context(|| format!("starting the thread {name}"))?;
    ended.await.context("the thread ended without a result")?
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio_util::sync::CancellationToken;

    use super::{Pauses, Supervisor, on_thread};

    /// Long enough that the test sees each end.
    const PAUSE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_task_that_ends_is_shown_and_started_again() {
        let pauses = Pauses { first: PAUSE, longest: PAUSE, works_after: PAUSE };
        let (supervisor, stop) = (Supervisor { pauses, ..Supervisor::default() }, CancellationToken::new());
        let (starts, until) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let task = move || {
            let (start, until) = (starts.fetch_add(1, Ordering::Relaxed), until.clone());
            async move {
                match start {
                    0 => panic!("at the first start"),
                    1 => Ok(()),
                    2 => anyhow::bail!("at the third start"),
                    _ => {
                        until.cancelled().await;
                        Ok(())
                    }
                }
            }
        };
        let kept = tokio::spawn(supervisor.clone().keep("task".to_owned(), stop.clone(), task));
        for reason in ["it panicked: at the first start", "it returned early", "at the third start"] {
            while !supervisor.problems().iter().any(|(task, why)| task == "task" && why.ends_with(reason)) {
                tokio::task::yield_now().await;
            }
        }
        while !supervisor.problems().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        kept.await.unwrap();
        assert!(supervisor.problems().is_empty() && !supervisor.fatal().is_cancelled());
    }

    #[tokio::test]
    async fn the_host_stops_when_a_task_ends_that_it_relies_on() {
        let supervisor = Supervisor::default();
        let panics = on_thread("panics", || panic!("on a thread"));
        supervisor.clone().rely_on("listener", CancellationToken::new(), panics).await;
        assert!(supervisor.fatal().is_cancelled());
        assert!(supervisor.problems()[0].1.ends_with("it panicked: on a thread"));

        let (stopped, supervisor) = (CancellationToken::new(), Supervisor::default());
        stopped.cancel();
        supervisor.clone().rely_on("listener", stopped, async { Ok(()) }).await;
        assert!(!supervisor.fatal().is_cancelled());
    }
}
