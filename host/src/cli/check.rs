//! `saga-host check`

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{output, serve::block_on, table::digest};
use crate::{
    model::{plugin_name::PluginName, policy::Policy},
    plugin::{engine::Engine, version::Version},
};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// File of the component
    file: PathBuf,
    /// Policy to check it against [default: the .toml file beside it]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write a policy with what the plugin asks for, if there is none
    #[arg(long)]
    write_policy: bool,
    /// Folder of compiled components; only this user may write to it
    #[arg(long, env = "SAGA_HOST_CACHE", value_name = "DIR", default_value = ".saga-host/cache")]
    cache: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let version = block_on(None, self.load())?;
        match self.json {
            true => output::json(&describe(&version)),
            false => output::line(&text(&describe(&version))),
        }
        Ok(())
    }

    async fn load(&self) -> anyhow::Result<Version> {
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let stem = PluginName::parse(&self.file.file_stem().unwrap_or_default().to_string_lossy())
            .with_context(|| format!("rename {}", self.file.display()))?;
        let engine = Engine::new(&self.cache)?;
        let policy = self.policy(&engine, &stem, &bytes).await?;
        Ok(Version::load(&engine, &stem, &bytes, Arc::new(policy)).await?)
    }

    async fn policy(&self, engine: &Engine, stem: &str, bytes: &[u8]) -> anyhow::Result<Policy> {
        let file = self.policy.clone().unwrap_or_else(|| self.file.with_extension("toml"));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
            Err(_) => {
                let suggested = Policy::suggested(&Version::describe(engine, stem, bytes).await?);
                ensure!(
                    self.write_policy,
                    "there is no policy {}; --write-policy writes what the plugin asks for:\n\n{suggested}",
                    file.display()
                );
                std::fs::write(&file, &suggested)
                    .with_context(|| format!("cannot write {}", file.display()))?;
                suggested
            }
        };
        Ok(Policy::parse(stem, &text)?)
    }
}

fn describe(version: &Version) -> Value {
    let manifest = &version.manifest;
    let routes = manifest.routes.iter().map(|route| format!("{} {}", route.method, route.path));
    let routes: Vec<String> = routes.collect();
    json!({
        "name": version.plugin,
        "version": manifest.version,
        "digest": version.digest,
        "database": version.policy.database.name,
        "reads": manifest.subscriptions.iter().map(|subscription| &subscription.topic).collect::<Vec<_>>(),
        "writes": manifest.publishes,
        "routes": routes,
        "sagas": manifest.sagas,
        "migrations": manifest.migrations.iter().map(|migration| &migration.name).collect::<Vec<_>>(),
    })
}

fn text(described: &Value) -> String {
    let mut lines = vec![format!(
        "{} {} {} would be accepted",
        described["name"].as_str().unwrap_or_default(),
        described["version"].as_str().unwrap_or_default(),
        digest(&described["digest"])
    )];
    for name in ["database", "reads", "writes", "routes", "sagas", "migrations"] {
        let value = match &described[name] {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        if !value.is_empty() {
            lines.push(format!("  {name:<11}{value}"));
        }
    }
    lines.join("\n")
}
