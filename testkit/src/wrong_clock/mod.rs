//! Makes the wall clock of one process wrong: a library that is loaded before the C library.
//!
//! libfaketime changes timed waits, too, and a host does not start under it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("clock.c");

/// Whether the library can be built here.
///
/// # Errors
/// It cannot; the message says what is missing.
pub fn possible() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "it needs Linux");
    let compiler = Command::new("cc").arg("--version").output();
    ensure!(compiler.is_ok_and(|output| output.status.success()), "it needs a C compiler, `cc`");
    Ok(())
}

/// Builds the library in a folder.
///
/// # Errors
/// The compiler fails.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).with_context(|| source.display().to_string())?;
    let built = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()?;
    ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
    // `LD_PRELOAD` is read by a program in another folder.
    library.canonicalize().with_context(|| library.display().to_string())
}

/// The environment of a process whose clock is ahead by so many milliseconds, or behind.
#[must_use]
pub fn environment(library: &Path, by_ms: i64) -> [(String, String); 2] {
    [("LD_PRELOAD".to_owned(), library.display().to_string()), ("WRONG_BY_MS".to_owned(), by_ms.to_string())]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{
        process::Command,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::{build, environment};

    #[test]
    fn only_the_wall_clock_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let library = build(folder.path()).unwrap();
        let shown = Command::new("date").arg("+%s").envs(environment(&library, 3_600_000)).output();
        let shown: u64 = String::from_utf8(shown.unwrap().stdout).unwrap().trim().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((now + 3_540..=now + 3_600).contains(&shown), "{shown} at {now}");
    }
}
