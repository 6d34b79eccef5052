//! Which `saga-host` to start, and the folder for its data and logs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::process::Command;

/// A file in each folder that this program may empty.
const MARK: &str = ".saga-run";

/// How to start a host.
#[derive(Debug, Clone, clap::Args)]
pub struct StartOptions {
    /// The saga-host to start [default: beside this program]
    #[arg(long)]
    pub host_binary: Option<PathBuf>,
    /// Folder of the plugins
    #[arg(long, default_value = "plugins/dist")]
    pub plugins: PathBuf,
    /// Folder for data and logs; those of an earlier run are removed
    #[arg(long, default_value = "target/saga-bench")]
    pub folder: PathBuf,
    /// Seconds until everything must be ready
    #[arg(long, default_value_t = 120)]
    pub ready_s: u64,
    /// Further variables of the host
    #[arg(skip)]
    pub environment: Vec<(String, String)>,
}

impl StartOptions {
    pub(super) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let binary = match &self.host_binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("saga-host"),
        };
        if !binary.is_file() {
            bail!(
                "no {}; build it with `cargo build --release -p saga-host`, or give its path with \
                 --host-binary",
                binary.display()
            );
        }
        let mut command = ends_with_this(&binary);
        command.args(arguments).envs(self.environment.iter().cloned());
        Ok(command)
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(self.ready_s)
    }

    /// Creates the folder, empty.
    ///
    /// # Errors
    /// It cannot be written to, or holds files that no run of this program has created.
    pub fn prepare(&self) -> Result<()> {
        let mark = self.folder.join(MARK);
        if self.folder.exists() {
            let empty = std::fs::read_dir(&self.folder)?.next().is_none();
            if !empty && !mark.exists() {
                bail!("{} holds other files; choose another --folder", self.folder.display());
            }
            std::fs::remove_dir_all(&self.folder)?;
        }
        std::fs::create_dir_all(&self.folder)?;
        std::fs::write(mark, "")?;
        Ok(())
    }
}

/// With `setpriv` of util-linux, the kernel sends the child SIGTERM when the thread that started it ends,
/// even by SIGKILL.
fn ends_with_this(binary: &Path) -> Command {
    let dying = ["--pdeathsig", "TERM"];
    let works = std::process::Command::new("setpriv").args(dying).arg("true").status();
    if works.is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(dying).arg(binary);
        return command;
    }
    Command::new(binary)
}

#[cfg(test)]
mod tests {
    use super::StartOptions;

    #[test]
    fn only_its_own_folder_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("bench");
        let options = StartOptions {
            host_binary: None,
            plugins: "p".into(),
            folder: folder.clone(),
            ready_s: 1,
            environment: vec![],
        };
        options.prepare().unwrap();
        std::fs::write(folder.join("old"), "").unwrap();
        options.prepare().unwrap();
        assert!(!folder.join("old").exists());
        std::fs::remove_file(folder.join(super::MARK)).unwrap();
        std::fs::write(folder.join("mine"), "").unwrap();
        assert!(options.prepare().is_err());
        assert!(folder.join("mine").exists());
    }
}
