//! `saga-host redrive`

use super::client::{Client, segment};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["id", "plugin", "reason", "all"]))]
pub(super) struct Redrive {
    /// Id of what is held, as `saga-host held` shows it
    #[arg(conflicts_with_all = ["plugin", "reason", "all"])]
    id: Option<String>,
    /// Everything of this plugin
    #[arg(long)]
    plugin: Option<String>,
    /// Everything with this text in the reason
    #[arg(long)]
    reason: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: Client,
}

impl Redrive {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let answer = match &self.id {
            Some(id) => self.client.post(&format!("/v1/held/{}/redrive", segment(id)), &[])?,
            None => {
                self.client.post("/v1/held/redrive", &[("plugin", self.plugin), ("reason", self.reason)])?
            }
        };
        self.client.show(&answer, |answer| {
            let ids: Vec<&str> =
                answer["redriven"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).collect();
            match ids.len() {
                0 => "nothing is held".to_owned(),
                1..=10 => format!("tried again now: {}", ids.join(", ")),
                count => format!("tried again now: {count} keys"),
            }
        });
        Ok(())
    }
}
