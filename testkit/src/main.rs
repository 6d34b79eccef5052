//! `saga-testkit`: one sub-command per check of the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use saga_testkit::{contract, demo, output, verify};

/// Checks a running saga-host from outside: its wire contract and its invariants; or shows it
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check HTTP and Kafka of a running host against the wire contract
    #[command(after_help = "Example: saga-testkit contract --dev-json .saga-host/dev.json")]
    Contract(contract::Options),
    /// Check all invariants of a system that is quiet
    #[command(after_help = "Example: saga-testkit verify --wait-s 30")]
    Verify(verify::Options),
    /// Start everything, show the order saga end to end and a live swap, then stay up
    #[command(after_help = "Example: saga-testkit demo --exit")]
    Demo(demo::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Contract(options) => contract::run(options).await,
        Command::Verify(options) => verify::run(options).await,
        Command::Demo(options) => demo::run(options).await,
    }
}
