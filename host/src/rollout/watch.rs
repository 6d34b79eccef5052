//! The plugin folder as a door to deploying: what is in it at the start, and what is put there later.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    deploy::DeployError,
    folder::{self, Seen},
    shared::Shared,
};

/// Before a plugin that Postgres or Kafka kept from starting is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Why a plugin is looked at.
#[derive(Clone, Copy)]
enum Occasion {
    /// The host starts: a file may be older than what is active.
    Start,
    /// Somebody has put the file there just now.
    File,
}

/// What was tried last, by plugin: a file that is seen again unchanged is no news.
type Tried = HashMap<String, Files>;

/// Hashes of a plugin's two files.
#[derive(PartialEq, Eq)]
struct Files {
    component: Vec<u8>,
    policy: Vec<u8>,
}

/// Deploys what is in the folder, then follows it until the host stops.
pub(crate) async fn start(shared: &Arc<Shared>) {
    let mut tried = Tried::new();
    let mut again = Vec::new();
    for stem in plugins(&shared.config.plugins) {
        again.extend(deploy(shared, &mut tried, &stem, Occasion::Start).await);
    }
    shared.starting.store(false, Ordering::Release);
    let mut seen = folder::spawn(shared.config.plugins.clone(), shared.stops.listeners.clone());
    let host = shared.clone();
    shared.tasks.listeners.spawn(async move {
        loop {
            let one = tokio::select! {
                one = seen.recv() => one,
                () = tokio::time::sleep(RETRY_EVERY), if !again.is_empty() => {
                    for (stem, occasion) in std::mem::take(&mut again) {
                        again.extend(deploy(&host, &mut tried, &stem, occasion).await);
                    }
                    continue;
                }
            };
            match one {
                Some(Seen::File { stem, .. }) => {
                    // One that waits since the start is no news either.
                    let waits = again.iter().position(|(name, _)| *name == stem);
                    let occasion = waits.map_or(Occasion::File, |place| again.swap_remove(place).1);
                    again.extend(deploy(&host, &mut tried, &stem, occasion).await);
                }
                Some(Seen::Unreadable { path, reason, .. }) => {
                    tracing::warn!("{} is not read: {reason}", path.display());
                }
                Some(Seen::Deleted { stem, .. }) => {
                    tracing::info!(plugin = stem, "its file was deleted; the plugin goes on as it is");
                }
                None => return,
            }
        }
    });
}

/// Plugins of a folder, sorted: what has a component, or a policy for one that a database keeps. The watcher
/// tells of what is wrong with the rest.
fn plugins(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let stem = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let stem = path.file_stem()?.to_str()?.to_owned();
        let fits = path.extension().is_some_and(|suffix| suffix == "wasm" || suffix == "toml");
        (fits && path.is_file() && !stem.starts_with('.')).then_some(stem)
    };
    entries.filter_map(stem).collect()
}

/// None when it cannot be read, or is too large; the watcher tells.
async fn component(path: &Path) -> Option<Vec<u8>> {
    let size = tokio::fs::metadata(path).await.ok()?.len();
    if size > folder::WASM_BYTES_MAX { None } else { tokio::fs::read(path).await.ok() }
}

/// Gives the plugin back when its environment was at fault, or another host was faster: then it is tried
/// again.
async fn deploy(
    shared: &Arc<Shared>,
    tried: &mut Tried,
    stem: &str,
    occasion: Occasion,
) -> Option<(String, Occasion)> {
    let file = |suffix| shared.config.plugins.join(format!("{stem}.{suffix}"));
    let bytes = component(&file("wasm")).await;
    let policy = tokio::fs::read(file("toml")).await.unwrap_or_default();
    let hash = |bytes: &[u8]| Sha256::digest(bytes).to_vec();
    let news = Files { component: hash(bytes.as_deref().unwrap_or_default()), policy: hash(&policy) };
    let before = tried.get(stem);
    if before == Some(&news) {
        return None;
    }
    // A policy that is edited applies to the active version, whatever file lies beside it.
    let edited = before.is_some_and(|before| before.component == news.component);
    let done = match (occasion, bytes) {
        (Occasion::Start, bytes) => shared.begin(stem, bytes).await,
        (Occasion::File, bytes) if edited => shared.begin(stem, bytes).await,
        (Occasion::File, Some(bytes)) => shared.deploy(stem, bytes, "file").await,
        (Occasion::File, None) => return None,
    };
    match done {
        Err(DeployError::Environment(_) | DeployError::Conflict(_)) => Some((stem.to_owned(), occasion)),
        // Said and kept already.
        _ => {
            tried.insert(stem.to_owned(), news);
            None
        }
    }
}
