//! Which of the installed versions of Postgres the stack runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::program::{self, find_program, output_of};

const OLDEST: u32 = 14;

/// A folder with `postgres` and `initdb`, and their major version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Installation {
    version: u32,
    pub(super) binaries: PathBuf,
}

impl Installation {
    /// The newest installed version, or the one that wrote the data.
    pub(super) fn choose(data: Option<u32>) -> anyhow::Result<Self> {
        choose(installations(), data)
    }
}

fn choose(mut found: Vec<Installation>, data: Option<u32>) -> anyhow::Result<Installation> {
    found.retain(|installation| installation.version >= OLDEST);
    let newest = found.iter().max().cloned();
    let Some(newest) = newest else {
        let install = program::install("postgresql", "postgresql-server", "postgresql@17");
        bail!("Postgres {OLDEST} or later is not installed: {install}");
    };
    let Some(version) = data else { return Ok(newest) };
    found.into_iter().find(|installation| installation.version == version).with_context(|| {
        format!(
            "Postgres {version} wrote the data, but only {} is installed: install {version}, or start over \
             with --fresh",
            newest.version
        )
    })
}

fn installations() -> Vec<Installation> {
    let mut folders = Vec::new();
    folders.extend(find_program("postgres").and_then(|program| parent(&program)));
    for versions in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
        let entries = fs::read_dir(versions).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path().join("bin")));
    }
    let asked =
        find_program("pg_config").and_then(|program| output_of(Command::new(program).arg("--bindir")));
    folders.extend(asked.map(|folder| PathBuf::from(folder.trim())));
    folders.retain(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    folders.sort();
    folders.dedup();
    folders.into_iter().filter_map(inspect).collect()
}

fn inspect(binaries: PathBuf) -> Option<Installation> {
    let printed = output_of(Command::new(binaries.join("postgres")).arg("--version"))?;
    Some(Installation { version: major_version(&printed)?, binaries })
}

/// `postgres (PostgreSQL) 17.6 (Debian 17.6-1)` is 17; so is `17beta1`.
fn major_version(printed: &str) -> Option<u32> {
    let version = printed.split_whitespace().nth(2)?;
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

fn parent(program: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(program).ok()?.parent()?.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn installation(version: u32) -> Installation {
        Installation { version, binaries: PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")) }
    }

    #[test]
    fn the_newest_is_chosen_unless_the_data_is_older() {
        let all = || vec![installation(13), installation(15), installation(17), installation(16)];
        assert_eq!(choose(all(), None).unwrap().version, 17);
        assert_eq!(choose(all(), Some(15)).unwrap().version, 15);
        for (found, data, says) in [
            (all(), Some(14), "--fresh"),
            (vec![installation(13)], None, "install"),
            (vec![], None, "install"),
        ] {
            let error = choose(found, data).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_version_is_read_from_every_build() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("bash"), None);
    }
}
