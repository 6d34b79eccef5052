//! A profile of the whole machine, taken by `perf` (Linux): which process and which functions each core was
//! in, so many times a second. Nothing is sampled while a core idles.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Of each stack so much is kept; deeper frames are not seen.
const STACK_BYTES: u32 = 16_384;
/// A clock of the kernel's: it works without the processor's counters, hence in a virtual machine.
const EVENT: &str = "cpu-clock";

/// One moment of one core.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) thread: String,
    /// None of a thread that was ending.
    pub(super) pid: Option<u32>,
    /// Names of functions, the innermost first; what has no name is `[unknown]`.
    pub(super) frames: Vec<String>,
}

/// A profile that was taken.
#[derive(Debug)]
pub(super) struct Recording {
    file: PathBuf,
}

/// Whether `perf` may look at the machine.
///
/// # Errors
/// It may not, or is not there; what to do.
pub(super) async fn usable() -> Result<()> {
    let tried = perf(&["record", "-q", "-a", "-e", EVENT, "-o", "/dev/null", "--", "true"]).output().await;
    let output = tried.context("perf is needed: install it, on Debian by `apt-get install linux-perf`")?;
    succeeded(&output).context("perf may not look at the whole machine: run this as root")
}

impl Recording {
    /// Takes one, for so long.
    ///
    /// # Errors
    /// As `perf` reports.
    pub(super) async fn take(file: &Path, samples_per_s: u32, seconds: u64) -> Result<Self> {
        let name = file.to_str().context("the folder's name is not UTF-8")?;
        let (rate, stack) = (samples_per_s.to_string(), format!("dwarf,{STACK_BYTES}"));
        let mut command =
            perf(&["record", "-q", "-a", "-e", EVENT, "-F", &rate, "--call-graph", &stack, "-o", name]);
        let output = command.args(["--", "sleep", &seconds.to_string()]).output().await?;
        succeeded(&output)?;
        Ok(Self { file: file.to_owned() })
    }

    /// Gives each sample to `take`.
    ///
    /// # Errors
    /// As `perf` reports.
    pub(super) async fn read(&self, mut take: impl FnMut(&Sample)) -> Result<()> {
        let mut command = perf(&["script", "--no-inline", "-F", "comm,pid,ip,sym", "-i"]);
        command.arg(&self.file).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("perf has no output")?).lines();
        let mut sample = Sample::default();
        while let Some(line) = lines.next_line().await? {
            match line.trim() {
                "" => {
                    take(&sample);
                    sample = Sample::default();
                }
                frame if line.starts_with(char::is_whitespace) && !sample.thread.is_empty() => {
                    sample.frames.push(function(frame).to_owned());
                }
                head => {
                    (sample.thread, sample.pid) = thread(head)
                        .with_context(|| format!("perf script: a line without a process: {head:?}"))?;
                }
            }
        }
        ensure!(child.wait().await?.success(), "perf script failed");
        Ok(())
    }
}

fn perf(arguments: &[&str]) -> Command {
    let mut command = Command::new("perf");
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

fn succeeded(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "perf: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// `rdk:broker1 1234`: the name of a thread may hold spaces. Of a thread that is ending, perf says `:-1 -1`.
fn thread(head: &str) -> Option<(String, Option<u32>)> {
    let (thread, pid) = head.rsplit_once(char::is_whitespace)?;
    let pid: i64 = pid.parse().ok()?;
    Some((thread.trim().to_owned(), u32::try_from(pid).ok()))
}

/// `7f00 function+0x1`, its name alone.
fn function(frame: &str) -> &str {
    frame.split_once(' ').map_or(frame, |(_, function)| function)
}

#[cfg(test)]
mod tests {
    use super::{function, thread};

    #[test]
    fn names_may_hold_spaces() {
        assert_eq!(thread("relay reports  4711"), Some(("relay reports".to_owned(), Some(4711))));
        assert_eq!(thread(":-1    -1"), Some((":-1".to_owned(), None)));
        assert_eq!(thread("nobody"), None);
        assert_eq!(function("7f2a <a as b::C<d>>::e"), "<a as b::C<d>>::e");
    }
}
