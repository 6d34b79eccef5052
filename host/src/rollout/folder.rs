//! Watches the plugin folder: says what is in each `NAME.wasm` with its `NAME.toml` once it has
//! come to rest. A file is an event; what is active is decided elsewhere.
//!
//! It polls: change notices get lost on network mounts and for swapped symbolic links.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two looks; a file is read when two of them agree.
const LOOK_MS: u64 = 250;
/// Of a component.
pub const WASM_BYTES_MAX: u64 = 64 << 20;
const POLICY_BYTES_MAX: u64 = 1 << 20;
/// Events that wait to be taken; then the watcher waits.
const EVENTS_MAX: usize = 16;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A component that is new or changed, or whose policy is.
    File {
        /// `NAME` of `NAME.wasm`.
        stem: String,
        /// The component.
        bytes: Vec<u8>,
        /// Text of `NAME.toml`; none when there is no such file.
        policy_text: Option<String>,
        /// Of the component.
        path: PathBuf,
    },
    /// A component that was there is gone.
    Deleted {
        /// `NAME` of `NAME.wasm`.
        stem: String,
        /// Where it was.
        path: PathBuf,
    },
    /// Something that cannot be a plugin, or the folder itself (`stem` is empty).
    Unreadable {
        /// `NAME` of `NAME.wasm`.
        stem: String,
        /// What it is about.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Watches until `stop`, or until nobody listens.
#[must_use]
pub fn spawn(folder: PathBuf, stop: CancellationToken) -> mpsc::Receiver<Seen> {
    let (events, seen) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        let mut folder = Folder { path: folder, known: BTreeMap::new(), trouble: None };
        let mut clock = tokio::time::interval(Duration::from_millis(LOOK_MS));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(clock.tick()).await.is_some() {
            let looked = spawn_blocking(move || {
                let events = folder.look();
                (folder, events)
            });
            let Ok((back, new)) = looked.await else { return };
            folder = back;
            for event in new {
                let sent = stop.run_until_cancelled(events.send(event)).await;
                if !matches!(sent, Some(Ok(()))) {
                    return;
                }
            }
        }
    });
    seen
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    is_file: bool,
}

/// A component and its policy, as `stat` sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    component: Stamp,
    policy: Option<Stamp>,
}

#[derive(Debug)]
struct Known {
    look: Look,
    /// Read, or found unreadable, at this look.
    settled: bool,
    /// Hashes of what was told last.
    told: Option<[[u8; 32]; 2]>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    trouble: Option<String>,
}

impl Folder {
    fn look(&mut self) -> Vec<Seen> {
        let looks = match looks(&self.path) {
            Ok(looks) => looks,
            Err(error) => return self.cannot_look(error.to_string()),
        };
        self.trouble = None;
        let mut events = Vec::new();
        let path = self.path.clone();
        self.known.retain(|stem, _| {
            let stays = looks.contains_key(stem);
            if !stays {
                events.push(Seen::Deleted { stem: stem.clone(), path: component_path(&path, stem) });
            }
            stays
        });
        for (stem, look) in looks {
            match self.known.get_mut(&stem) {
                None => {
                    self.known.insert(stem, Known { look, settled: false, told: None });
                }
                Some(known) if known.look != look => {
                    known.look = look;
                    known.settled = false;
                }
                Some(known) if known.settled => {}
                Some(known) => events.extend(settle(&path, &stem, known)),
            }
        }
        events
    }

    fn cannot_look(&mut self, reason: String) -> Vec<Seen> {
        if self.trouble.as_ref() == Some(&reason) {
            return Vec::new();
        }
        self.trouble = Some(reason.clone());
        vec![Seen::Unreadable { stem: String::new(), path: self.path.clone(), reason }]
    }
}

fn component_path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.wasm"))
}

fn looks(folder: &Path) -> io::Result<BTreeMap<String, Look>> {
    let mut looks = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".wasm")) else { continue };
        if stem.is_empty() || stem.starts_with('.') {
            continue;
        }
        // Gone since it was listed: the next look says so.
        if let Some(component) = stamp(&component_path(folder, stem)) {
            let policy = stamp(&folder.join(format!("{stem}.toml")));
            looks.insert(stem.to_owned(), Look { component, policy });
        }
    }
    Ok(looks)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        is_file: metadata.is_file(),
    })
}

/// Reads what has stayed the same for two looks; nothing when it changes meanwhile, or is what
/// was told before.
fn settle(folder: &Path, stem: &str, known: &mut Known) -> Option<Seen> {
    let path = component_path(folder, stem);
    let read = read(&path, known.look.component, WASM_BYTES_MAX).and_then(|bytes| {
        let policy = known.look.policy.map(|stamp| {
            let path = folder.join(format!("{stem}.toml"));
            let text = read(&path, stamp, POLICY_BYTES_MAX)?;
            String::from_utf8(text).map_err(|_| format!("{stem}.toml is not text in UTF-8"))
        });
        Ok((bytes, policy.transpose()?))
    });
    if stamp(&path) != Some(known.look.component) {
        return None;
    }
    known.settled = true;
    let stem = stem.to_owned();
    let (bytes, policy_text) = match read {
        Ok(read) => read,
        Err(reason) => {
            known.told = None;
            return Some(Seen::Unreadable { stem, path, reason });
        }
    };
    let policy_hash = policy_text.as_ref().map_or([0; 32], |text| Sha256::digest(text).into());
    let hashes = [Sha256::digest(&bytes).into(), policy_hash];
    if known.told.replace(hashes) == Some(hashes) {
        return None;
    }
    Some(Seen::File { stem, bytes, policy_text, path })
}

fn read(path: &Path, stamp: Stamp, bytes_max: u64) -> Result<Vec<u8>, String> {
    if !stamp.is_file {
        return Err("not a file".to_owned());
    }
    if stamp.size > bytes_max {
        return Err(format!("{} bytes, more than {bytes_max}", stamp.size));
    }
    fs::read(path).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::{Folder, Seen};

    /// What comes of looking until nothing changes: `stem:component:policy`.
    fn settled(folder: &mut Folder) -> Vec<String> {
        let events = (0..3).flat_map(|_| folder.look()).collect::<Vec<_>>();
        let told = events.into_iter().map(|event| match event {
            Seen::File { stem, bytes, policy_text, .. } => {
                format!("{stem}:{}:{}", String::from_utf8_lossy(&bytes), policy_text.unwrap_or_default())
            }
            Seen::Deleted { stem, .. } => format!("{stem} deleted"),
            Seen::Unreadable { stem, reason, .. } => format!("{stem} {reason}"),
        });
        told.collect()
    }

    #[test]
    fn each_state_is_told_once_when_it_has_come_to_rest() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let mut folder = Folder { path: directory.path().to_owned(), known: BTreeMap::new(), trouble: None };
        write("a.wasm", "one");
        for ignored in [".b.wasm", "c.wasm.tmp", "d.wasm~", "e.toml", ".wasm"] {
            write(ignored, "x");
        }
        assert_eq!(folder.look(), []);
        assert_eq!(settled(&mut folder), ["a:one:"]);
        write("a.wasm", "three");
        write("a.toml", "p");
        assert_eq!(settled(&mut folder), ["a:three:p"]);
        write("b.tmp", "three");
        fs::rename(directory.path().join("b.tmp"), directory.path().join("a.wasm")).unwrap();
        assert_eq!(settled(&mut folder), Vec::<String>::new(), "the same content is no event");
        fs::remove_file(directory.path().join("a.wasm")).unwrap();
        fs::create_dir(directory.path().join("f.wasm")).unwrap();
        assert_eq!(settled(&mut folder), ["a deleted", "f not a file"]);
        drop(directory);
        assert_eq!(settled(&mut folder).len(), 1);
    }
}
