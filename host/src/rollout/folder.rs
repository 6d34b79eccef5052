//! The plugin folder: what each `NAME.wasm` with its `NAME.toml` holds, and what changes. A changed file is
//! read once it has settled. Other modules decide what becomes active.
//!
//! It polls, because change notifications get lost on network mounts and for swapped symbolic links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::model::plugin_name::PluginName;

/// The interval between two scans. A file has settled when two of them agree.
const SCAN_INTERVAL: Duration = Duration::from_millis(250);
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
const POLICY_BYTES_MAX: u64 = 1 << 20;
/// Changes that wait to be handled. When there are as many, the scan waits.
const CHANGES_MAX: usize = 16;

/// A change of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A component or its policy is new or changed.
    File {
        /// `NAME` of `NAME.wasm`.
        plugin: PluginName,
        /// The component.
        component: Vec<u8>,
        /// False when only the policy is new or changed.
        component_changed: bool,
    },
    /// A component was deleted.
    Deleted {
        /// `NAME` of `NAME.wasm`.
        plugin: PluginName,
    },
    /// A component cannot be read or cannot be one, or the folder cannot be read.
    Unreadable {
        /// `NAME` of `NAME.wasm`; none when it is the folder, or when that is not the name of a plugin.
        plugin: Option<PluginName>,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Metadata that tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    is_file: bool,
}

/// The stamps of a component and its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamps {
    component: Stamp,
    policy: Option<Stamp>,
}

/// SHA-256 of a component, and of its policy where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hashes {
    component: [u8; 32],
    policy: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Known {
    stamps: Stamps,
    /// Whether it was read, or found unreadable, under these stamps.
    settled: bool,
}

/// The plugins of the folder, each with its component when that can be read.
pub(crate) type Contents = Vec<(PluginName, Option<Vec<u8>>)>;

/// The folder, and what the last scan found in it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    known: BTreeMap<PluginName, Known>,
    /// The hashes that were reported last for each plugin, also after its files are gone: a component that
    /// disappears and returns unchanged, as after a remount, is no change and must not undo a rollback.
    reported: BTreeMap<PluginName, Hashes>,
    /// Files whose name is not that of a plugin, at the last scan.
    misnamed: BTreeSet<String>,
    /// Why the folder itself could not be read at the last scan.
    unreadable: Option<String>,
}

impl Folder {
    /// A folder that was not scanned yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: BTreeMap::new(),
            reported: BTreeMap::new(),
            misnamed: BTreeSet::new(),
            unreadable: None,
        }
    }

    /// The plugins that are there now, sorted, each with its component when that can be read. A plugin may
    /// have a policy alone: then the registry stores its component. [`Self::scan`] reports files that cannot
    /// be read, and later changes.
    pub(super) fn read(&mut self) -> Contents {
        let plugins = plugins(&self.path);
        plugins.into_iter().map(|plugin| (plugin.clone(), self.read_now(&plugin))).collect()
    }

    fn read_now(&mut self, plugin: &PluginName) -> Option<Vec<u8>> {
        let stamps = stamps(&self.path, plugin)?;
        let component = read_component(&self.path, plugin, stamps).ok()?;
        // A policy that cannot be read is for deploying to report, which reads it again.
        if let Ok(policy) = read_policy(&self.path, plugin, stamps) {
            self.reported.insert(plugin.clone(), hashes(&component, policy.as_deref()));
            self.known.insert(plugin.clone(), Known { stamps, settled: true });
        }
        Some(component)
    }

    /// Scans the folder. Reports a change at the first scan that finds the files as the previous one did.
    fn scan(&mut self) -> Vec<Change> {
        let Found { plugins: found, misnamed } = match scan(&self.path) {
            Ok(found) => found,
            Err(error) => return self.cannot_read(error.to_string()),
        };
        self.unreadable = None;
        let mut changes = self.newly_misnamed(misnamed);
        self.known.retain(|plugin, _| {
            let stays = found.contains_key(plugin);
            if !stays {
                changes.push(Change::Deleted { plugin: plugin.clone() });
            }
            stays
        });
        for (plugin, stamps) in found {
            match self.known.get_mut(&plugin) {
                None => {
                    self.known.insert(plugin, Known { stamps, settled: false });
                }
                Some(known) if known.stamps != stamps => {
                    known.stamps = stamps;
                    known.settled = false;
                }
                Some(known) if known.settled => {}
                Some(known) => changes.extend(read_settled(&self.path, &plugin, known, &mut self.reported)),
            }
        }
        changes
    }

    fn newly_misnamed(&mut self, misnamed: BTreeSet<String>) -> Vec<Change> {
        let new = misnamed.difference(&self.misnamed).filter_map(|stem| {
            let reason = PluginName::parse(stem).err()?.to_string();
            let path = self.path.join(format!("{stem}.wasm"));
            Some(Change::Unreadable { plugin: None, path, reason })
        });
        let changes = new.collect();
        self.misnamed = misnamed;
        changes
    }

    fn cannot_read(&mut self, reason: String) -> Vec<Change> {
        if self.unreadable.as_ref() == Some(&reason) {
            return Vec::new();
        }
        self.unreadable = Some(reason.clone());
        vec![Change::Unreadable { plugin: None, path: self.path.clone(), reason }]
    }

    /// Reports changes until `stop`, or until the receiver is dropped.
    pub(super) fn watch(self, stop: CancellationToken) -> mpsc::Receiver<Change> {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        tokio::spawn(async move {
            let mut folder = self;
            let mut clock = tokio::time::interval(SCAN_INTERVAL);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(clock.tick()).await.is_some() {
                let scanned = spawn_blocking(move || {
                    let changes = folder.scan();
                    (folder, changes)
                });
                let Ok((back, new)) = scanned.await else { return };
                folder = back;
                for change in new {
                    let sent = stop.run_until_cancelled(sender.send(change)).await;
                    if !matches!(sent, Some(Ok(()))) {
                        return;
                    }
                }
            }
        });
        changes
    }
}

fn component_path(folder: &Path, plugin: &PluginName) -> PathBuf {
    folder.join(format!("{plugin}.wasm"))
}

fn policy_path(folder: &Path, plugin: &PluginName) -> PathBuf {
    folder.join(format!("{plugin}.toml"))
}

/// The names of all components and policies. [`Folder::scan`] reports other names.
fn plugins(folder: &Path) -> BTreeSet<PluginName> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let plugin = |entry: fs::DirEntry| {
        let path = entry.path();
        let plugin = PluginName::parse(path.file_stem()?.to_str()?).ok()?;
        let fits = path.extension().is_some_and(|suffix| suffix == "wasm" || suffix == "toml");
        (fits && path.is_file()).then_some(plugin)
    };
    entries.filter_map(plugin).collect()
}

/// What is in the folder.
#[derive(Default)]
struct Found {
    plugins: BTreeMap<PluginName, Stamps>,
    /// The stems of components whose name is not that of a plugin.
    misnamed: BTreeSet<String>,
}

fn scan(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let Some(stem) = name.strip_suffix(".wasm").filter(|stem| !stem.starts_with('.')) else { continue };
        let Ok(plugin) = PluginName::parse(stem) else {
            found.misnamed.extend((!stem.is_empty()).then(|| stem.to_owned()));
            continue;
        };
        // None when the file was deleted after it was listed; the next scan reports that.
        if let Some(stamps) = stamps(folder, &plugin) {
            found.plugins.insert(plugin, stamps);
        }
    }
    Ok(found)
}

fn stamps(folder: &Path, plugin: &PluginName) -> Option<Stamps> {
    let component = stamp(&component_path(folder, plugin))?;
    Some(Stamps { component, policy: stamp(&policy_path(folder, plugin)) })
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

/// Reads files that two scans have found the same. None when they change meanwhile, or are what was reported
/// last.
fn read_settled(
    folder: &Path,
    plugin: &PluginName,
    known: &mut Known,
    reported: &mut BTreeMap<PluginName, Hashes>,
) -> Option<Change> {
    let component = read_component(folder, plugin, known.stamps);
    let read = component.and_then(|component| Ok((component, read_policy(folder, plugin, known.stamps)?)));
    let path = component_path(folder, plugin);
    if stamp(&path) != Some(known.stamps.component) {
        return None;
    }
    known.settled = true;
    let plugin = plugin.clone();
    let (component, policy) = match read {
        Ok(read) => read,
        Err(reason) => return Some(Change::Unreadable { plugin: Some(plugin), path, reason }),
    };
    let hashes = hashes(&component, policy.as_deref());
    let last = reported.insert(plugin.clone(), hashes);
    if last == Some(hashes) {
        return None;
    }
    let component_changed = last.is_none_or(|last| last.component != hashes.component);
    Some(Change::File { plugin, component, component_changed })
}

fn hashes(component: &[u8], policy: Option<&[u8]>) -> Hashes {
    Hashes {
        component: Sha256::digest(component).into(),
        policy: policy.map(|policy| Sha256::digest(policy).into()),
    }
}

fn read_component(folder: &Path, plugin: &PluginName, stamps: Stamps) -> Result<Vec<u8>, String> {
    read_file(&component_path(folder, plugin), stamps.component, COMPONENT_BYTES_MAX)
}

/// None when there is no policy.
fn read_policy(folder: &Path, plugin: &PluginName, stamps: Stamps) -> Result<Option<Vec<u8>>, String> {
    let read = |stamp| read_file(&policy_path(folder, plugin), stamp, POLICY_BYTES_MAX);
    let policy = stamps.policy.map(read).transpose();
    policy.map_err(|reason| format!("its policy {plugin}.toml: {reason}"))
}

fn read_file(path: &Path, stamp: Stamp, bytes_max: u64) -> Result<Vec<u8>, String> {
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
mod tests;
