//! Where Postgres keeps its data, and as which user it runs. Postgres refuses to run as root, and the user
//! that it runs as must be able to enter its folder.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use crate::process::{User, command};

const ELSEWHERE: &str = "/var/tmp";
const PREFIX: &str = "saga-host-";
/// A file in a folder below `/var/tmp`: the path of the data folder to which that folder belongs.
const ORIGIN: &str = "origin";

/// A folder for `postgres/`, and the user that owns it.
#[derive(Debug)]
pub(super) struct Home {
    pub folder: PathBuf,
    pub user: Option<User>,
}

impl Home {
    /// Uses `data` itself where possible, otherwise a folder below `/var/tmp`.
    pub(super) fn find(data: &Path) -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { folder: data.to_owned(), user: None });
        }
        remove_orphaned(Path::new(ELSEWHERE));
        let user = owner(&data.join("postgres")).map_or_else(other_user, Ok)?;
        if may_enter(user, data) {
            return Ok(Self { folder: data.to_owned(), user: Some(user) });
        }
        let folder = elsewhere(data)?;
        tracing::info!(
            folder = %folder.display(),
            "Postgres keeps its data here, since it cannot run as root and no other user may enter {}",
            data.display()
        );
        let user = owner(&folder.join("postgres")).unwrap_or(user);
        Ok(Self { folder, user: Some(user) })
    }
}

/// A short name derived from the path of a data folder.
pub(super) fn short_name(data: &Path) -> String {
    let digest = hex::encode(Sha256::digest(data.as_os_str().as_bytes()));
    format!("{PREFIX}{}", &digest[..12])
}

/// Creates the folder, or reuses it when root owns it. Any user may write to its parent.
fn elsewhere(data: &Path) -> anyhow::Result<PathBuf> {
    let folder = Path::new(ELSEWHERE).join(short_name(data));
    if let Err(error) = fs::create_dir(&folder) {
        let found =
            fs::symlink_metadata(&folder).with_context(|| format!("{}: {error}", folder.display()))?;
        ensure!(
            found.is_dir() && found.uid() == 0,
            "{} does not belong to root; remove it",
            folder.display()
        );
    }
    fs::write(folder.join(ORIGIN), data.as_os_str().as_bytes())?;
    Ok(folder)
}

/// Removes folders whose data folder no longer exists.
fn remove_orphaned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && fs::symlink_metadata(entry.path()).is_ok_and(|made| made.is_dir() && made.uid() == 0);
        let Some(origin) = ours.then(|| fs::read(entry.path().join(ORIGIN)).ok()).flatten() else { continue };
        if !Path::new(std::ffi::OsStr::from_bytes(&origin)).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner(folder: &Path) -> Option<User> {
    let metadata = fs::metadata(folder).ok()?;
    (metadata.uid() != 0).then(|| User { uid: metadata.uid(), gid: metadata.gid() })
}

fn may_enter(user: User, folder: &Path) -> bool {
    let test = command(Path::new("test"), Some(user)).arg("-x").arg(folder).status();
    test.is_ok_and(|status| status.success())
}

fn other_user() -> anyhow::Result<User> {
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let user = ["postgres", "nobody"].iter().find_map(|name| find_user(&users, name));
    user.context(
        "Postgres may not run as root, and there is no user `postgres` or `nobody`: run this as another user",
    )
}

/// Looks a user up in the lines of passwd(5).
fn find_user(users: &str, name: &str) -> Option<User> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:9:9::/:\npostgres:x:115:122:PostgreSQL:/var:/bin/sh\n";
        assert_eq!(find_user(users, "postgres"), Some(User { uid: 115, gid: 122 }));
        assert_eq!(find_user(users, "nobody"), None);
    }

    #[test]
    fn only_a_folder_whose_origin_is_gone_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, origin: Option<&Path>| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            if let Some(origin) = origin {
                fs::write(folder.join(ORIGIN), origin.as_os_str().as_bytes()).unwrap();
            }
            folder
        };
        let gone = make("saga-host-1", Some(&parent.path().join("gone")));
        let kept = [
            make("saga-host-2", Some(parent.path())),
            make("saga-host-3", None),
            make("other", Some(&parent.path().join("gone"))),
        ];
        remove_orphaned(parent.path());
        // Only root's folders are ever below `/var/tmp`.
        assert_eq!(gone.exists(), !rustix::process::geteuid().is_root());
        assert!(kept.iter().all(|folder| folder.exists()));
    }
}
