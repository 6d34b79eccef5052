//! A library that changes the wall clock of one process.
//!
//! libfaketime changes timed waits, too, and a host does not start under it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("skew.c");

/// The variable that holds the difference, in milliseconds.
pub(super) const VARIABLE: &str = "CHAOS_SKEW_MS";

/// Whether the library can be built here.
///
/// # Errors
/// It cannot; the message says what is missing.
pub(super) fn possible() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "it needs Linux");
    let compiler = Command::new("cc").arg("--version").output();
    ensure!(compiler.is_ok_and(|output| output.status.success()), "it needs a C compiler, `cc`");
    Ok(())
}

/// Builds the library in a folder.
///
/// # Errors
/// The compiler fails.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("skew.c"), folder.join("skew.so"));
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::{VARIABLE, build};

    #[test]
    fn only_the_wall_clock_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let library = build(folder.path()).unwrap();
        let output =
            Command::new("date").arg("+%s").env("LD_PRELOAD", &library).env(VARIABLE, "3600000").output();
        let shown: u64 = String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((now + 3_540..=now + 3_600).contains(&shown), "{shown} at {now}");
    }
}
