//! `saga-host rollback`

use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    deploy,
};
use crate::model::plugin_name::PluginName;

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// Name of the plugin
    name: PluginName,
    /// Digest, or its first digits, of an earlier version [default: the previous version]
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Rollback {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plugin = format!("/v1/plugins/{}", segment(&self.name));
        let answer = match &self.to {
            Some(digest) => {
                self.client.post_json(&format!("{plugin}/activate"), &json!({ "digest": digest }))?
            }
            None => self.client.post(&format!("{plugin}/rollback"), &[])?,
        };
        self.client.show(&answer, |answer: &Value| {
            format!(
                "{}\nThe file in the plugin folder is unchanged; the host deploys it again when it changes.",
                deploy::active(answer)
            )
        });
        Ok(())
    }
}
