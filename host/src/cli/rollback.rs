//! `saga-host rollback`

use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    deploy,
};

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The plugin
    name: String,
    /// Digest, or the start of one, of a version that was active before [default: the version before the
    /// active one]
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
                "{}\nIts file in the plugin folder is as it was; it is not deployed again unless it changes.",
                deploy::active(answer)
            )
        });
        Ok(())
    }
}
