//! The command line: one command a file, and this enum that delegates.

mod check;
mod client;
mod deploy;
mod dev;
mod held;
mod output;
mod plugins;
mod redrive;
mod rollback;
mod run;
mod saga;
mod sagas;
mod serve;
mod stack;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs saga logic as WebAssembly components next to Kafka and Postgres
#[derive(Parser)]
#[command(
    name = "saga-host",
    version,
    after_help = "SAGA_HOST_LOG chooses what is logged, e.g. warn,saga_host::relay=debug [default: info,librdkafka=error,sqlx::postgres::notice=warn]\n\
                  Exit codes: 0 done, 1 failed, 2 used wrongly"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Development: a private Postgres and Kafka, the host, and all plugins of a folder
    #[command(after_help = "Example: saga-host dev --plugins plugins/dist --fresh")]
    Dev(dev::Dev),
    /// Only the private Postgres and Kafka, without a host
    #[command(after_help = "Example: saga-host stack --postgres-port 5433 --kafka-port 9093")]
    Stack(stack::Stack),
    /// Production: serve with the Postgres and Kafka that it is told
    #[command(
        after_help = "Example: SAGA_HOST_POSTGRES=postgres://saga:secret@db/postgres SAGA_HOST_KAFKA=kafka:9092 \
                            saga-host run --plugins /etc/saga-host/plugins"
    )]
    Run(run::Run),
    /// Would this component be accepted? Needs no running host
    #[command(after_help = "Example: saga-host check plugins/dist/inventory-command.wasm")]
    Check(check::Check),
    /// Bring a component into a running host
    #[command(after_help = "Example: saga-host deploy plugins/dist/inventory-command.wasm")]
    Deploy(deploy::Deploy),
    /// Plugins, their versions, and what these have done
    #[command(after_help = "Example: saga-host plugins --json")]
    Plugins(plugins::Plugins),
    /// Activate the version before, or another that was active once
    #[command(after_help = "Example: saga-host rollback inventory-command\n         \
                            saga-host rollback inventory-command --to 51b0aa")]
    Rollback(rollback::Rollback),
    /// Search sagas
    #[command(after_help = "Example: saga-host sagas --type order --state overdue")]
    Sagas(sagas::Sagas),
    /// The timeline of one saga
    #[command(after_help = "Example: saga-host saga 0193a1b2-0000-7000-8000-00000000abcd")]
    Saga(saga::Saga),
    /// What waits for a retry or for a person
    #[command(after_help = "Example: saga-host held --state dead_letter")]
    Held(held::Held),
    /// Have held deliveries tried again, each key in its order
    #[command(after_help = "Example: saga-host redrive order-query-12\n         \
                            saga-host redrive --plugin order-query --reason 'no such column'")]
    Redrive(redrive::Redrive),
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dev(command) => command.run(),
        Command::Stack(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Deploy(command) => command.run(),
        Command::Plugins(command) => command.run(),
        Command::Rollback(command) => command.run(),
        Command::Sagas(command) => command.run(),
        Command::Saga(command) => command.run(),
        Command::Held(command) => command.run(),
        Command::Redrive(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn every_command_is_sound_and_shows_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for command in command.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("saga-host {}", command.get_name())), "{}", command.get_name());
        }
    }
}
