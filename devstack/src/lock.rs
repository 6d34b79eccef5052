//! One stack per data folder, by two file locks. The kernel releases them however a process ends. `host.lock`
//! belongs to the process that runs the stack; `stack.lock` also belongs to its children, which inherit the
//! open file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

/// How long to wait for `host.lock`: a process that was just killed may still hold it.
const WAIT_FOR_HOST: Duration = Duration::from_secs(1);
const WAIT_FOR_ORPHANS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Both locks of a stack in this process.
#[derive(Debug)]
pub(super) struct Lock {
    stack: File,
    _host: File,
}

impl Lock {
    /// The file that a child inherits.
    pub(super) fn share(&self) -> std::io::Result<File> {
        self.stack.try_clone()
    }
}

/// Acquires both. Waits for the children of a stack that has ended, but not for a stack that is running.
pub(super) async fn acquire(data: &Path) -> anyhow::Result<Lock> {
    let (mut host, locked) = lock(&data.join("host.lock"), WAIT_FOR_HOST).await?;
    if !locked {
        let mut owner = String::new();
        host.read_to_string(&mut owner)?;
        bail!("another stack (process {owner}) uses {}: stop it, or choose another --data", data.display());
    }
    host.set_len(0)?;
    write!(host, "{}", std::process::id())?;
    let file = data.join("stack.lock");
    let (stack, locked) = lock(&file, WAIT_FOR_ORPHANS).await?;
    if !locked {
        bail!("Postgres or Kafka of an earlier run is still running; `fuser {}` finds it", file.display());
    }
    Ok(Lock { stack, _host: host })
}

/// The open file, and whether it was locked in time.
async fn lock(path: &Path, wait: Duration) -> anyhow::Result<(File, bool)> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let began = tokio::time::Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok((file, true)),
            Err(TryLockError::WouldBlock) if began.elapsed() > wait => return Ok((file, false)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
}
