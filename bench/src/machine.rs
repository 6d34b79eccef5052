//! The machine that a measurement runs on: is it quiet, and what does a flush to its disk cost.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::latency::{Latencies, Summary};
use crate::process::{busy_ticks, ticks_per_second};

const QUIET_SECONDS: u32 = 3;
const FLUSHES: u32 = 200;
const FLUSH_BYTES: usize = 8192;

/// How many cores work now, measured over one second.
pub async fn busy_cores() -> f64 {
    let before = busy_ticks();
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    match (before, busy_ticks()) {
        (Some(before), Some(after)) => {
            after.saturating_sub(before) as f64 / ticks_per_second() / began.elapsed().as_secs_f64()
        }
        _ => 0.0,
    }
}

/// Waits until for three seconds in a row less than `cores_max` cores worked. Gives what the last second was.
///
/// # Errors
/// It did not become quiet within `limit`: the load that was there, in cores.
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

/// How long 200 flushes of 8 KiB took each, on the disk of `folder`. Blocks.
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
