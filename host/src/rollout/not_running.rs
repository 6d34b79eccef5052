//! Plugins that should run on this host and do not: why, and which routes they would answer.

use std::time::SystemTime;

use super::{Rollout, services::Awaited};
use crate::{
    ingress::http::not_running::{Cause, NotRunning},
    model::{manifest::Route, plugin_name::PluginName},
    plugin::version::Version,
};

impl Rollout {
    /// Records that a plugin does not run, so that its routes are answered 503 and `/readyz` names it. Nothing
    /// is recorded of a plugin that runs in another version, or that the operator has given no policy.
    pub(super) async fn not_running(
        &self,
        plugin: &PluginName,
        component: Option<&[u8]>,
        digest: &str,
        (cause, reason): (Cause, &str),
    ) {
        let has_policy = tokio::fs::try_exists(self.policy_path(plugin)).await.unwrap_or(true);
        if self.services.find(plugin).is_some() || !has_policy {
            return;
        }
        let routes = self.known_routes(plugin, component).await;
        let not_running = NotRunning { plugin: plugin.to_string(), cause, routes };
        let (digest, reason, at) = (digest.to_owned(), reason.to_owned(), SystemTime::now());
        self.services.expect(plugin, Awaited { digest, reason, at, not_running });
    }

    /// The routes that the policy grants, and those that the component declares. Neither Postgres nor Kafka is
    /// needed. None when neither file can be read.
    async fn known_routes(&self, plugin: &PluginName, component: Option<&[u8]>) -> Option<Vec<Route>> {
        let policy = self.policy_file(plugin).await.ok().flatten();
        let granted =
            policy.map(|policy| policy.http.routes.iter().filter_map(|text| granted(text)).collect());
        let declared = match component {
            Some(bytes) => Version::describe(&self.launcher.engine, plugin, bytes).await.ok(),
            None => None,
        };
        let declared = declared.map(|manifest| manifest.routes);
        match (granted, declared) {
            (Some(granted), Some(declared)) => Some([granted, declared].concat()),
            (granted, declared) => granted.or(declared),
        }
    }
}

/// `POST /orders` of a policy.
fn granted(text: &str) -> Option<Route> {
    let (method, path) = text.split_once(' ')?;
    Some(Route { method: method.to_owned(), path: path.to_owned(), read: false })
}
