//! The plugin folder as a door to deploying: what is in it at the start, and what is put there later.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{DeployError, Shared};
use crate::plugin::watch::{self, Seen};

/// Before a plugin that Postgres or Kafka kept from starting is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// What was tried last, by plugin: a file that is seen again unchanged is no news.
type Tried = HashMap<String, Vec<u8>>;

/// Deploys what is in the folder, then follows it until the host stops.
pub(super) async fn start(shared: &Arc<Shared>) {
    let mut tried = Tried::new();
    let mut again = Vec::new();
    for stem in components(&shared.config.plugins) {
        again.extend(deploy(shared, &mut tried, &stem).await);
    }
    shared.starting.store(false, Ordering::Release);
    let mut seen = watch::spawn(shared.config.plugins.clone(), shared.stops.listeners.clone());
    let host = shared.clone();
    shared.tasks.listeners.spawn(async move {
        loop {
            let one = tokio::select! {
                one = seen.recv() => one,
                () = tokio::time::sleep(RETRY_EVERY), if !again.is_empty() => {
                    for stem in std::mem::take(&mut again) {
                        again.extend(deploy(&host, &mut tried, &stem).await);
                    }
                    continue;
                }
            };
            match one {
                Some(Seen::File { stem, .. }) => again.extend(deploy(&host, &mut tried, &stem).await),
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

/// File stems of the components in a folder, sorted. The watcher tells of what is wrong with the rest.
fn components(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let stem = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let stem = path.file_stem()?.to_str()?.to_owned();
        (path.extension()? == "wasm" && path.is_file() && !stem.starts_with('.')).then_some(stem)
    };
    let mut stems: Vec<String> = entries.filter_map(stem).collect();
    stems.sort_unstable();
    stems
}

/// Gives the plugin back when its environment was at fault: then it is tried again.
async fn deploy(shared: &Arc<Shared>, tried: &mut Tried, stem: &str) -> Option<String> {
    let file = |suffix| shared.config.plugins.join(format!("{stem}.{suffix}"));
    let bytes = tokio::fs::read(file("wasm")).await.ok()?;
    let policy = tokio::fs::read(file("toml")).await.unwrap_or_default();
    let news = Sha256::new().chain_update(&policy).chain_update(&bytes).finalize().to_vec();
    if tried.get(stem) == Some(&news) {
        return None;
    }
    match shared.deploy(stem, bytes, "file").await {
        Err(DeployError::Environment(_)) => Some(stem.to_owned()),
        // Said and kept by `deploy` itself.
        _ => {
            tried.insert(stem.to_owned(), news);
            None
        }
    }
}
