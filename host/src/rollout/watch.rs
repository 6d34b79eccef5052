//! Deploys from the plugin folder: what is in it when the host starts, and what is put into it later.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::task::spawn_blocking;

use super::{
    Rollout,
    deploy::{DeployError, digest_of},
    folder::{Change, Contents, Folder},
};
use crate::{ingress::http::not_running::Cause, model::plugin_name::PluginName};

/// The pause before the next attempt to deploy a plugin after Postgres or Kafka failed; it doubles after each.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(4);

/// A plugin's file that is to be deployed.
struct Attempt {
    plugin: PluginName,
    component: Option<Vec<u8>>,
    occasion: Occasion,
    /// Whether the log has it that the attempt waits for Postgres or Kafka.
    outage_logged: bool,
}

impl Attempt {
    fn new(plugin: PluginName, component: Option<Vec<u8>>, occasion: Occasion) -> Self {
        Self { plugin, component, occasion, outage_logged: false }
    }
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
    /// Reads what is in the folder.
    pub(crate) async fn read_folder(&self) -> anyhow::Result<(Folder, Contents)> {
        let mut folder = Folder::new(self.folder.clone());
        let read = spawn_blocking(move || {
            let plugins = folder.read();
            (folder, plugins)
        });
        read.await.context("reading the plugin folder")
    }

    /// Deploys the `plugins` of the folder, then follows its changes in a task until the host stops.
    pub(crate) async fn watch_folder(self: &Arc<Self>, folder: Folder, plugins: Contents) {
        let mut retries = Vec::new();
        for (plugin, component) in plugins {
            retries.extend(self.attempt(Attempt::new(plugin, component, Occasion::Start)).await);
        }
        self.services.started();
        let stop = self.launcher.stops.listeners.clone();
        let changes = folder.watch(stop.clone());
        let this = self.clone();
        let follow = async move {
            this.follow_folder(changes, retries).await;
            Ok(())
        };
        let supervised =
            self.launcher.supervisor.clone().rely_on("watcher of the plugin folder", stop, follow);
        self.launcher.tasks.listeners.spawn(supervised);
    }

    async fn follow_folder(
        self: Arc<Self>,
        mut changes: tokio::sync::mpsc::Receiver<Change>,
        mut retries: Vec<Attempt>,
    ) {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            if retries.is_empty() {
                pause = RETRY_PAUSE_MIN;
            }
            let change = tokio::select! {
                change = changes.recv() => change,
                () = tokio::time::sleep(pause), if !retries.is_empty() => {
                    for attempt in std::mem::take(&mut retries) {
                        retries.extend(self.attempt(attempt).await);
                    }
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
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
                    retries.extend(self.attempt(Attempt::new(plugin, Some(component), occasion)).await);
                }
                Some(Change::Unreadable { plugin, path, reason }) => {
                    tracing::warn!("{} is not deployed: {reason}", path.display());
                    plugin.inspect(|plugin| forget_component(&mut retries, plugin));
                }
                Some(Change::Deleted { plugin }) => {
                    tracing::info!(
                        plugin = %plugin,
                        "the component was deleted from the folder; the plugin stays active"
                    );
                    forget_component(&mut retries, &plugin);
                    if !tokio::fs::try_exists(self.policy_path(&plugin)).await.unwrap_or(true) {
                        self.services.forget(&plugin);
                    }
                }
                None => return,
            }
        }
    }

    /// Returns the attempt when it must be repeated: the environment was at fault, or another host was
    /// faster.
    async fn attempt(&self, mut attempt: Attempt) -> Option<Attempt> {
        let Attempt { plugin, component, occasion, outage_logged } = &mut attempt;
        let component = component.as_deref();
        let done = match (occasion, component) {
            (Occasion::NewComponent, Some(component)) => self.deploy(plugin, component, "file").await,
            (_, component) => self.start(plugin, component).await,
        };
        let digest = component.map(digest_of).unwrap_or_default();
        match &done {
            Ok(_) | Err(DeployError::SameDigest(_) | DeployError::Conflict(_)) => {}
            Err(DeployError::Environment(reason)) => {
                if !std::mem::replace(outage_logged, true) {
                    tracing::warn!(
                        plugin = %plugin,
                        digest,
                        reason,
                        "plugin waits for Postgres or Kafka, retrying"
                    );
                }
                let reason = format!("waits, retrying: {reason}");
                self.not_running(plugin, component, &digest, (Cause::Outage, &reason)).await;
            }
            Err(DeployError::Rejected(reason)) => {
                self.not_running(plugin, component, &digest, (Cause::Refused, reason)).await;
            }
            Err(DeployError::UnknownPlugin) => {
                let reason = "it has a policy, but no version was deployed";
                self.not_running(plugin, component, &digest, (Cause::NotDeployed, reason)).await;
            }
        }
        matches!(done, Err(DeployError::Environment(_) | DeployError::Conflict(_))).then_some(attempt)
    }
}

/// Retries do not deploy a deleted component. A plugin that has not started yet still starts with the version
/// that the registry stores.
fn forget_component(retries: &mut Vec<Attempt>, plugin: &PluginName) {
    retries.retain_mut(|attempt| {
        let is_gone = attempt.plugin == *plugin;
        if is_gone {
            attempt.component = None;
        }
        !(is_gone && matches!(attempt.occasion, Occasion::NewComponent))
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Attempt, Occasion, PluginName, forget_component};

    #[test]
    fn a_retry_does_not_deploy_a_component_that_is_gone() {
        let attempt = |plugin: &str, occasion| {
            Attempt::new(PluginName::parse(plugin).unwrap(), Some(plugin.as_bytes().to_vec()), occasion)
        };
        for (occasion, left) in [(Occasion::NewComponent, 1), (Occasion::Start, 2)] {
            let mut retries = vec![attempt("gone", occasion), attempt("other", Occasion::NewComponent)];
            forget_component(&mut retries, &PluginName::parse("gone").unwrap());
            assert_eq!(retries.len(), left);
            let kept = |plugin| retries.iter().find(|attempt| attempt.plugin.as_str() == plugin);
            assert!(
                kept("gone").is_none_or(|attempt| attempt.component.is_none()),
                "only the stored version starts"
            );
            assert!(kept("other").is_some_and(|attempt| attempt.component.is_some()));
        }
    }
}
