//! `saga-host redrive`

use clap::ArgGroup;

use super::client::{Client, segment};

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["id", "plugin", "reason", "all"])
)]
pub(super) struct Redrive {
    /// Id of a parked delivery, as `saga-host parked` shows it
    #[arg(conflicts_with_all = ["plugin", "reason", "all"])]
    id: Option<String>,
    /// Every parked delivery of this plugin
    #[arg(long)]
    plugin: Option<String>,
    /// Every parked delivery with this text in the reason
    #[arg(long)]
    reason: Option<String>,
    /// Every parked delivery
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: Client,
}

impl Redrive {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let answer = match &self.id {
            Some(id) => self.client.post(&format!("/v1/parked/{}/redrive", segment(id)), &[])?,
            None => {
                self.client.post("/v1/parked/redrive", &[("plugin", self.plugin), ("reason", self.reason)])?
            }
        };
        self.client.show(&answer, |answer| {
            let ids: Vec<&str> =
                answer["redriven"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).collect();
            match ids.len() {
                0 => "nothing is parked".to_owned(),
                1..=10 => format!("redriven: {}", ids.join(", ")),
                count => format!("redriven: {count} keys"),
            }
        });
        Ok(())
    }
}
