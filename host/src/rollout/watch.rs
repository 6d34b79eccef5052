//! Deploys from the plugin folder: what is in it when the host starts, and what is put into it later.

use std::{sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{
    Rollout,
    deploy::DeployError,
    folder::{Change, Folder},
};

/// The pause before the next attempt to deploy a plugin after Postgres or Kafka failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A plugin's file that is to be deployed.
struct Attempt {
    plugin: String,
    component: Option<Vec<u8>>,
    occasion: Occasion,
}

/// Why a plugin is deployed.
#[derive(Clone, Copy)]
enum Occasion {
    /// The host starts, or only the policy has changed: the file may be older than the active version.
    Start,
    /// The component was just put into the folder.
    NewComponent,
}

impl Rollout {
    /// Deploys what is in the folder, then follows its changes in a task until the host stops.
    pub(crate) async fn watch_folder(self: &Arc<Self>) {
        let mut folder = Folder::new(self.folder.clone());
        let read = spawn_blocking(move || {
            let plugins = folder.read();
            (folder, plugins)
        });
        // Reading fails only while the runtime shuts down.
        let Ok((folder, plugins)) = read.await else { return };
        let mut retries = Vec::new();
        for (plugin, component) in plugins {
            retries.extend(self.attempt(Attempt { plugin, component, occasion: Occasion::Start }).await);
        }
        self.services.started();
        let changes = folder.watch(self.launcher.stops.listeners.clone());
        self.launcher.tasks.listeners.spawn(self.clone().follow_folder(changes, retries));
    }

    async fn follow_folder(
        self: Arc<Self>,
        mut changes: tokio::sync::mpsc::Receiver<Change>,
        mut retries: Vec<Attempt>,
    ) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = tokio::time::sleep(RETRY_PAUSE), if !retries.is_empty() => {
                    for attempt in std::mem::take(&mut retries) {
                        retries.extend(self.attempt(attempt).await);
                    }
                    continue;
                }
            };
            match change {
                Some(Change::File { plugin, component, component_changed }) => {
                    let waiting = retries.iter().position(|attempt| attempt.plugin == plugin);
                    // A plugin that has not started yet is still to be started, whichever of its files has
                    // changed.
                    let occasion = match waiting.map(|index| retries.swap_remove(index).occasion) {
                        Some(occasion) => occasion,
                        None if component_changed => Occasion::NewComponent,
                        None => Occasion::Start,
                    };
                    let component = Some(component);
                    retries.extend(self.attempt(Attempt { plugin, component, occasion }).await);
                }
                Some(Change::Unreadable { plugin, path, reason }) => {
                    tracing::warn!("{} is not deployed: {reason}", path.display());
                    plugin.inspect(|plugin| forget_component(&mut retries, plugin));
                }
                Some(Change::Deleted { plugin }) => {
                    tracing::info!(
                        plugin,
                        "the component was deleted from the folder; the plugin stays active"
                    );
                    forget_component(&mut retries, &plugin);
                }
                None => return,
            }
        }
    }

    /// Returns the attempt when it must be repeated: the environment was at fault, or another host was
    /// faster.
    async fn attempt(&self, attempt: Attempt) -> Option<Attempt> {
        let Attempt { plugin, component, occasion } = &attempt;
        let done = match (occasion, component.as_deref()) {
            (Occasion::NewComponent, Some(component)) => self.deploy(plugin, component, "file").await,
            (_, component) => self.start(plugin, component).await,
        };
        // All other errors are logged and stored for the host API.
        matches!(done, Err(DeployError::Environment(_) | DeployError::Conflict(_))).then_some(attempt)
    }
}

/// Retries do not deploy a deleted component. A plugin that has not started yet still starts with the version
/// that the registry stores.
fn forget_component(retries: &mut Vec<Attempt>, plugin: &str) {
    retries.retain_mut(|attempt| {
        let is_gone = attempt.plugin == plugin;
        if is_gone {
            attempt.component = None;
        }
        !(is_gone && matches!(attempt.occasion, Occasion::NewComponent))
    });
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Occasion, forget_component};

    #[test]
    fn a_retry_does_not_deploy_a_component_that_is_gone() {
        let attempt = |plugin: &str, occasion| {
            let component = Some(plugin.as_bytes().to_vec());
            Attempt { plugin: plugin.to_owned(), component, occasion }
        };
        for (occasion, left) in [(Occasion::NewComponent, 1), (Occasion::Start, 2)] {
            let mut retries = vec![attempt("gone", occasion), attempt("other", Occasion::NewComponent)];
            forget_component(&mut retries, "gone");
            assert_eq!(retries.len(), left);
            let kept = |plugin| retries.iter().find(|attempt| attempt.plugin == plugin);
            assert!(
                kept("gone").is_none_or(|attempt| attempt.component.is_none()),
                "only the stored version starts"
            );
            assert!(kept("other").is_some_and(|attempt| attempt.component.is_some()));
        }
    }
}
