//! `saga-host deploy`

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use super::{
    client::{Client, segment},
    table::{digest, text},
};

#[derive(Debug, clap::Args)]
pub(super) struct Deploy {
    /// File of the component
    file: PathBuf,
    /// Name of the plugin [default: the name of the file without its extension]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Deploy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.file.display();
        let component = std::fs::read(&self.file).with_context(|| format!("cannot read {file}"))?;
        let stem = self.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = self
            .name
            .or(stem)
            .with_context(|| format!("{file} has no file name; choose a plugin name with --name"))?;
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
