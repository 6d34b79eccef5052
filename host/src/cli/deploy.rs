//! `saga-host deploy`

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use super::{
    client::{Client, segment},
    table::{digest, text},
};
use crate::model::plugin_name::PluginName;

#[derive(Debug, clap::Args)]
pub(super) struct Deploy {
    /// File of the component
    file: PathBuf,
    /// Name of the plugin [default: the name of the file without its extension]
    #[arg(long)]
    name: Option<PluginName>,
    #[command(flatten)]
    client: Client,
}

impl Deploy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.file.display();
        let component = std::fs::read(&self.file).with_context(|| format!("cannot read {file}"))?;
        let name = match self.name {
            Some(name) => name,
            None => {
                let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
                PluginName::parse(&stem).context("choose the plugin's name with --name")?
            }
        };
        let path = format!("/v1/plugins/{}", segment(&name));
        let deployed = self.client.put(&path, "application/wasm", &component)?;
        self.client.show(&deployed, active);
        Ok(())
    }
}

/// Describes the version that became active.
pub(super) fn active(deployed: &Value) -> String {
    let was = match deployed["was"].as_str() {
        Some(_) => format!(", was {}", digest(&deployed["was"])),
        None => String::new(),
    };
    format!(
        "{} {} ({}) is active{was}; generation {}",
        text(&deployed["name"]),
        digest(&deployed["digest"]),
        text(&deployed["version"]),
        deployed["generation"]
    )
}
