//! `saga-host run`

use std::path::PathBuf;

use super::serve::{Signals, block_on};
use crate::{config::Settings, log, runtime::Host};

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// TOML file of settings; options and environment variables override it
    #[arg(long, env = "SAGA_HOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let from_file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        let settings = self.settings.or(from_file);
        log::init(settings.log_format.unwrap_or_default())?;
        let workers = settings.workers;
        let config = settings.config()?;
        block_on(workers, async {
            let mut signals = Signals::new()?;
            // For example while it waits for Postgres: a supervisor must not take that for a failure.
            let Some(host) = signals.unless_stopped(Host::start(config)).await.transpose()? else {
                tracing::info!("stopped before the start was complete");
                return Ok(());
            };
            tracing::info!(http = %host.http_address(), admin = %host.admin_address(), "serving");
            signals.serve(host).await
        })
    }
}
