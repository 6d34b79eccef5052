//! Finds and runs programs of the system, and says how to install them.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The program of this name in `PATH`.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The output of a short command on stdout and stderr, when it succeeds.
pub(super) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let both = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&both).into_owned())
}

/// The command that installs these packages on this machine.
pub(super) fn install(apt: &str, dnf: &str, brew: &str) -> String {
    if find_program("apt-get").is_some() {
        format!("apt-get install {apt}")
    } else if find_program("dnf").is_some() {
        format!("dnf install {dnf}")
    } else {
        format!("brew install {brew}")
    }
}
