//! The command line: one command per file, and one enum that delegates to them.

mod check;
mod client;
mod deploy;
mod dev;
mod output;
mod parked;
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

/// Run saga logic as WebAssembly components beside Kafka and Postgres
#[derive(Parser)]
#[command(
    name = "saga-host",
    version,
    after_help = "SAGA_HOST_LOG sets the log filter, e.g. warn,saga_host::relay=debug\n\
                  [default: info,librdkafka=error,sqlx::postgres::notice=warn]\n\
                  Exit codes: 0 success, 1 failure, 2 wrong usage"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run for development: a private Postgres and Kafka, the host, and all plugins of a folder
    #[command(after_help = "Example: saga-host dev --plugins plugins/dist --fresh")]
    Dev(dev::Dev),
    /// Run only the private Postgres and Kafka, without a host
    #[command(after_help = "Example: saga-host stack --postgres-port 5433 --kafka-port 9093")]
    Stack(stack::Stack),
    /// Run for production: connect to an existing Postgres and Kafka
    #[command(after_help = "Example: SAGA_HOST_POSTGRES=postgres://saga:secret@db/postgres \
                      SAGA_HOST_KAFKA=kafka:9092 saga-host run --plugins /etc/saga-host/plugins")]
    Run(run::Run),
    /// Check whether a host would accept a component; needs no running host
    #[command(after_help = "Example: saga-host check plugins/dist/inventory-command.wasm")]
    Check(check::Check),
    /// Deploy a component to a running host
    #[command(after_help = "Example: saga-host deploy plugins/dist/inventory-command.wasm")]
    Deploy(deploy::Deploy),
    /// List plugins, their versions and counters
    #[command(after_help = "Example: saga-host plugins --json")]
    Plugins(plugins::Plugins),
    /// Roll back to the previous version, or activate another earlier one
    #[command(after_help = "Example: saga-host rollback inventory-command\n         \
                            saga-host rollback inventory-command --to 51b0aa")]
    Rollback(rollback::Rollback),
    /// Search sagas
    #[command(after_help = "Example: saga-host sagas --type order --state overdue")]
    Sagas(sagas::Sagas),
    /// Show the timeline of one saga
    #[command(after_help = "Example: saga-host saga 0193a1b2-0000-7000-8000-00000000abcd")]
    Saga(saga::Saga),
    /// List parked deliveries, which wait for a retry or for a person
    #[command(after_help = "Example: saga-host parked --state dead_letter")]
    Parked(parked::Parked),
    /// Redrive parked deliveries, each key in its order
    #[command(after_help = "Example: saga-host redrive order-query-12\n         \
                            saga-host redrive --plugin order-query --reason 'no such column'")]
    Redrive(redrive::Redrive),
}

/// Runs the command that the arguments name.
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
        Command::Parked(command) => command.run(),
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

    /// Without the values that the variables of this machine have.
    fn sound() -> clap::Command {
        let hide = |arg: clap::Arg| arg.hide_env_values(true);
        let command = Cli::command();
        command.clone().debug_assert();
        command.term_width(100).mut_subcommands(|command| command.mut_args(hide).term_width(100))
    }

    #[test]
    fn help_names_every_command_and_the_exit_codes() {
        insta::assert_snapshot!(sound().render_help());
    }

    #[test]
    fn every_command_explains_its_options_and_shows_an_example() {
        let mut command = sound();
        command.build();
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let (name, help) = (command.get_name().to_owned(), command.render_help().to_string());
            assert!(help.contains("Example: ") && help.contains(&format!("saga-host {name}")), "{help}");
            insta::assert_snapshot!(format!("help_of_{name}"), help);
        }
    }
}
