//! One stack per data folder. The lock belongs to an open file that the children inherit, so it is free
//! when the last of them has ended, and not before.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, test_kill_process};

const WAIT_FOR_ORPHANS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// The lock of a stack in this process.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// For a child to inherit.
    pub(super) fn share(&self) -> std::io::Result<File> {
        self.0.try_clone()
    }
}

impl Drop for Lock {
    /// The children may still be ending; who waits for the lock now waits for them alone.
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
    }
}

/// Takes the lock; waits for the children of a stack that was killed, but not for a stack that lives.
pub(super) async fn acquire(data: &Path) -> anyhow::Result<Lock> {
    let file = data.join("stack.lock");
    let mut lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&file)?;
    let began = tokio::time::Instant::now();
    while let Err(error) = lock.try_lock() {
        let TryLockError::WouldBlock = error else {
            return Err(error).with_context(|| format!("locking {}", file.display()));
        };
        if let Some(owner) = living_owner(&mut lock) {
            bail!("another stack (process {owner}) uses {}: stop it, or name another --data", data.display());
        }
        if began.elapsed() > WAIT_FOR_ORPHANS {
            bail!("Postgres or Kafka of an earlier run does not end; `fuser {}` names it", file.display());
        }
        tokio::time::sleep(POLL).await;
    }
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())?;
    Ok(Lock(lock))
}

fn living_owner(lock: &mut File) -> Option<i32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.read_to_string(&mut text).ok()?;
    let owner = text.trim().parse().ok()?;
    test_kill_process(Pid::from_raw(owner)?).is_ok().then_some(owner)
}
