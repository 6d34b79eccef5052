//! The plugin folder as a door to deploying: what is in it at the start, and what is put there later.

use std::sync::{Arc, atomic::Ordering};

use super::Shared;
use crate::plugin::watch::{self, Seen};

/// Deploys what is in the folder, then follows it until the host stops.
pub(super) async fn start(shared: &Arc<Shared>) {
    let folder = shared.config.plugins.clone();
    let (first, mut seen) = watch::start(folder, shared.stops.listeners.clone()).await;
    for one in first {
        take(shared, one).await;
    }
    shared.starting.store(false, Ordering::Release);
    let host = shared.clone();
    shared.tasks.listeners.spawn(async move {
        while let Some(one) = seen.recv().await {
            take(&host, one).await;
        }
    });
}

async fn take(shared: &Arc<Shared>, seen: Seen) {
    match seen {
        Seen::Component { stem, bytes } => {
            // Said and kept by `deploy` itself.
            let _told = shared.deploy(&stem, bytes, "file").await;
        }
        Seen::Unreadable { stem, reason } => tracing::warn!(plugin = stem, "plugin not read: {reason}"),
        Seen::Deleted { stem } => {
            tracing::info!(plugin = stem, "its file was deleted; the plugin goes on as it is");
        }
    }
}
