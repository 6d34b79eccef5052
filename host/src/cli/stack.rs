//! `saga-host stack`

use std::path::PathBuf;

use saga_devstack::{KAFKA_PORT, POSTGRES_PORT, StackOptions};

use super::{
    output,
    serve::{Signals, block_on},
};
use crate::log;

#[derive(Debug, clap::Args)]
pub(super) struct Stack {
    #[command(flatten)]
    stack: StackArgs,
    /// Format of log lines
    #[arg(long, env = "SAGA_HOST_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: log::LogFormat,
}

/// Options of the development stack.
#[derive(Debug, clap::Args)]
pub(super) struct StackArgs {
    /// Folder of all data; it is kept between starts
    #[arg(long, value_name = "DIR", default_value = ".saga-host")]
    pub(super) data: PathBuf,
    /// Delete the data of earlier starts first
    #[arg(long)]
    fresh: bool,
    /// Port of Postgres on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = POSTGRES_PORT)]
    postgres_port: u16,
    /// Port of Kafka on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = KAFKA_PORT)]
    kafka_port: u16,
}

impl StackArgs {
    /// Starts Postgres and Kafka.
    pub(super) async fn start(&self, signals: &mut Signals) -> anyhow::Result<saga_devstack::Stack> {
        let options = StackOptions {
            data: self.data.clone(),
            fresh: self.fresh,
            postgres_port: Some(self.postgres_port),
            kafka_port: Some(self.kafka_port),
            kafka_listeners: Vec::new(),
        };
        signals.or_stop(saga_devstack::Stack::start(options), "starting Postgres and Kafka").await?
    }
}

/// Stops Postgres and Kafka; a signal ends the wait.
pub(super) async fn stop(stack: saga_devstack::Stack, signals: &mut Signals) -> anyhow::Result<()> {
    signals.or_stop(stack.stop(), "stopping Postgres and Kafka").await
}

impl Stack {
    pub(super) fn run(self) -> anyhow::Result<()> {
        log::init(self.log_format)?;
        block_on(None, async {
            let mut signals = Signals::new()?;
            let stack = self.stack.start(&mut signals).await?;
            let served = self.serve(&stack, &mut signals).await;
            let stopped = stop(stack, &mut signals).await;
            served.and(stopped)
        })
    }

    async fn serve(&self, stack: &saga_devstack::Stack, signals: &mut Signals) -> anyhow::Result<()> {
        stack.write_dev_json(None, None)?;
        output::line(&banner(stack, &[("data", self.stack.data.display().to_string())]));
        tokio::select! {
            () = signals.next() => Ok(()),
            error = stack.failed() => Err(error),
        }
    }
}

/// Addresses, one per line.
pub(super) fn banner(stack: &saga_devstack::Stack, further: &[(&str, String)]) -> String {
    let mut text = format!("\nsaga-host {}\n\n", env!("CARGO_PKG_VERSION"));
    let of_stack =
        [("Postgres", stack.postgres_url().to_owned()), ("Kafka", stack.kafka_bootstrap().to_owned())];
    for (name, value) in further.iter().chain(&of_stack) {
        text.push_str(&format!("  {name:<10}{value}\n"));
    }
    text.push_str("\nPress Ctrl-C to stop.\n");
    text
}
