//! A thread of low priority that runs one job after the other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use anyhow::Context;
use tokio::sync::oneshot;

/// Compiling and loading yield the processor to the threads that run units, whose niceness is 0.
const NICENESS: i32 = 10;

/// A thread of low priority. It lives as long as the host and serves all jobs of a kind: memory that a thread
/// allocated is slow to reuse once that thread has ended.
#[derive(Debug)]
pub(super) struct LowPriorityThread(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl LowPriorityThread {
    pub(super) fn start(name: &str) -> anyhow::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let run = move || {
            // Threads that the compiler starts inherit it. A failure only costs the other threads some time.
            let _lowered = rustix::process::setpriority_process(None, NICENESS);
            for job in jobs {
                // The caller of `run` gets an error, since the panic drops the sender of its answer.
                let _panicked = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .with_context(|| format!("starting the thread {name}"))?;
        Ok(Self(sender))
    }

    /// Runs a job after those that were queued before it.
    ///
    /// # Errors
    /// The job panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> wasmtime::Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            let _caller_may_be_gone = answer.send(job());
        };
        // If the thread has ended, this drops the job and with it the sender of the answer.
        let _sent = self.0.send(Box::new(job));
        Ok(answered.await?)
    }
}
