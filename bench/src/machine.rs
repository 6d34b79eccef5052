//! The machine that a measurement runs on: whether it is quiet, and what a flush to its disk costs.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::latency::{Latencies, Summary};
use saga_testkit::process::{machine_ticks, ticks_per_second};

const QUIET_SECONDS: u32 = 3;
const QUIET_CORES_MAX: f64 = 0.3;
const QUIET_WITHIN: Duration = Duration::from_secs(90);
const FLUSHES: u32 = 200;
const FLUSH_BYTES: usize = 8192;

/// The state of the machine before a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Cores that this program may use.
    pub cores: usize,
    /// Whether fewer than 0.3 cores worked before the load began.
    pub quiet: bool,
    /// Cores that worked.
    pub busy_cores: f64,
    /// Seconds until it was quiet, or until the limit.
    pub quiet_wait_s: f64,
    /// Duration of an fdatasync of 8 KiB on the disk of the data; unknown when the data is on another
    /// machine.
    pub flush: Option<Summary>,
}

impl Machine {
    /// Waits up to 90 s until the machine is quiet (not at all when it may be `busy`), and times flushes to
    /// the disk of `data`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub async fn examine(busy: bool, data: Option<&Path>) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let began = Instant::now();
        let busy_cores = if busy {
            busy_cores().await
        } else {
            wait_until_quiet(QUIET_CORES_MAX, QUIET_WITHIN).await.unwrap_or_else(|busy| busy)
        };
        let quiet_wait_s = began.elapsed().as_secs_f64();
        let flush = match data.map(Path::to_owned) {
            Some(folder) => Some(tokio::task::spawn_blocking(move || flush_latency(&folder)).await??),
            None => None,
        };
        Ok(Self { cores, quiet: busy_cores < QUIET_CORES_MAX, busy_cores, quiet_wait_s, flush })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quiet = if self.quiet { "quiet" } else { "NOT QUIET" };
        let (busy, waited) = (self.busy_cores, self.quiet_wait_s);
        write!(f, "{} cores, {quiet} ({busy:.2} busy before the load, after {waited:.0} s)", self.cores)?;
        match self.flush {
            Some(flush) => {
                write!(f, "; fdatasync of 8 KiB: p50 {:.2} ms, p99 {:.2} ms", flush.p50_ms, flush.p99_ms)
            }
            None => Ok(()),
        }
    }
}

/// How many cores work now, measured over one second.
pub async fn busy_cores() -> f64 {
    let before = machine_ticks();
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    match (before, machine_ticks()) {
        (Some(before), Some(after)) => {
            after.busy.saturating_sub(before.busy) as f64 / ticks_per_second() / began.elapsed().as_secs_f64()
        }
        _ => 0.0,
    }
}

/// Waits until fewer than `cores_max` cores have worked for three seconds in a row. Returns the cores of the
/// last second.
///
/// # Errors
/// It did not become quiet within `limit`; contains the cores that worked.
pub async fn wait_until_quiet(cores_max: f64, limit: Duration) -> Result<f64, f64> {
    let began = Instant::now();
    let mut quiet = 0;
    loop {
        let busy = busy_cores().await;
        quiet = if busy < cores_max { quiet + 1 } else { 0 };
        if quiet >= QUIET_SECONDS {
            return Ok(busy);
        }
        if began.elapsed() > limit {
            return Err(busy);
        }
    }
}

/// Times 200 flushes of 8 KiB each on the disk of `folder`. Blocks.
///
/// # Errors
/// The folder cannot be written to.
pub fn flush_latency(folder: &Path) -> Result<Summary> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("flush-probe");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let mut latencies = Latencies::default();
    for _ in 0..FLUSHES {
        let began = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[7; FLUSH_BYTES])?;
        file.sync_data()?;
        latencies.add(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(latencies.summary())
}

#[cfg(test)]
mod tests {
    #[test]
    fn flushes_are_timed_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(super::flush_latency(folder.path()).unwrap().count, 200);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
