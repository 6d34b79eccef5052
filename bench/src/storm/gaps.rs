//! How long no client saw a saga end: what a lane's pause looks like from outside.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::Window;

const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The longest gap of each stretch of time.
pub(super) struct Gaps<'a> {
    window: &'a Window,
    ended: u64,
    since: Instant,
    longest: Duration,
    all: Vec<Duration>,
}

impl<'a> Gaps<'a> {
    pub(super) fn begin(window: &'a Window) -> Self {
        let now = Instant::now();
        Self { window, ended: window.ended(), since: now, longest: Duration::ZERO, all: Vec::new() }
    }

    /// One stretch in which nothing is done.
    pub(super) async fn watch(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
        self.all.push(std::mem::take(&mut self.longest));
    }

    /// One stretch of that length after something was done. A gap that began while it was done counts in
    /// full.
    pub(super) async fn watch_after(
        &mut self,
        work: impl Future<Output = Result<()>>,
        length: Duration,
    ) -> Result<()> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(LOOK_EVERY) => self.look(),
            }
        }
        self.longest = Duration::ZERO;
        self.watch(length).await;
        Ok(())
    }

    pub(super) fn all(self) -> Vec<Duration> {
        self.all
    }

    fn look(&mut self) {
        let (now, ended) = (Instant::now(), self.window.ended());
        self.longest = self.longest.max(now.duration_since(self.since));
        if ended != self.ended {
            (self.ended, self.since) = (ended, now);
        }
    }
}
