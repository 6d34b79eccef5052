//! Runs a system under a seeded schedule of faults, and afterwards checks from outside everything that a file
//! about the system says.
//!
//! ```text
//!  seed ──▶ schedule ──▶ run ──▶ calm, faults ──▶ system: N hosts, each linked to one Postgres and Kafka
//!                         │                          ▲
//!  description (TOML) ──▶ setup, calls ──────────────┘ each request sent under one id until a host accepts it
//!                         │
//!                         └──▶ check (archive, scratch, sequence), recovery ──▶ summary
//! ```
//!
//! A new fault is one variant of [`Fault`] and one function in `faults`. `sabotage` checks the checks: it runs
//! hosts from which one protection was removed.

mod calls;
mod calm;
mod check;
mod description;
mod disk;
mod fault;
mod faults;
mod handled;
mod links;
mod recovery;
mod run;
mod sabotage;
mod schedule;
mod services;
mod setup;
mod summary;
mod system;
mod template;
mod versions;

use std::path::PathBuf;

use anyhow::Result;

use saga_testkit::host_process::StartOptions;
use saga_testkit::report::Report;

pub use fault::Fault;

/// Options of `saga-bench chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// The system: `order`, or a file that describes another one
    #[arg(long, default_value = "order")]
    system: String,
    /// Hosts on the same Kafka and Postgres
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    hosts: u8,
    /// Seconds over which requests and faults are spread
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// Requests to send, evenly over that time
    #[arg(long, visible_alias = "orders", default_value_t = 12_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Faults to choose from [default: all that this system and machine can have]
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Chooses requests, faults, hosts and moments; the same seed chooses the same [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Clients that send the requests
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Seconds after the last fault until every request must be accepted
    #[arg(long, default_value_t = 120)]
    accept_s: u64,
    /// Seconds after that until the system must be quiet
    #[arg(long, default_value_t = 120)]
    quiet_s: u64,
    /// Milliseconds from the request of an undisturbed swap until every host must run the new version
    #[arg(long, default_value_t = 1000)]
    swap_ms_max: u64,
    /// Write the report to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Remove one protection of the host after the other, or only these, and fail unless each is noticed;
    /// needs a host that was built with the feature `sabotage`
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',',
          conflicts_with_all = ["faults", "json", "hosts", "seconds", "requests"])]
    sabotage: Option<Vec<String>>,
}

impl Options {
    fn faults(&self) -> Vec<Fault> {
        if self.faults.is_empty() { Fault::all() } else { self.faults.clone() }
    }

    /// The command line that repeats the run.
    fn command(&self, seed: u64) -> String {
        let mut command = format!(
            "./dev chaos --system {} --plugins {} --seed {seed} --hosts {} --seconds {} --requests {} \
             --clients {} --accept-s {} --quiet-s {} --swap-ms-max {}",
            self.system,
            self.start.plugins.display(),
            self.hosts,
            self.seconds,
            self.requests,
            self.clients,
            self.accept_s,
            self.quiet_s,
            self.swap_ms_max,
        );
        if let Some(binary) = &self.start.host_binary {
            command.push_str(&format!(" --host-binary {}", binary.display()));
        }
        if !self.faults.is_empty() {
            let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
            command.push_str(&format!(" --faults {}", faults.join(",")));
        }
        command
    }
}

/// Runs `saga-bench chaos`.
///
/// # Errors
/// Something cannot be started, a fault cannot be injected or does not heal, or an invariant is broken.
pub async fn run(options: Options) -> Result<()> {
    let description = description::System::read(&options.system)?;
    if let Some(names) = &options.sabotage {
        return sabotage::run(&options, names, &description).await;
    }
    let mut report = Report::default();
    let summary = run::run(&options, description, &mut report).await?;
    run::release(&options, &report, &summary)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Options;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Options {
        Cli::try_parse_from(line.split(' ').skip(1)).unwrap().options
    }

    #[test]
    fn the_command_line_of_a_report_repeats_its_run() {
        let command =
            parse("./dev chaos --host-binary x --accept-s 9 --hosts 3 --faults kill,swap-kill --orders 9")
                .command(7);
        assert!(
            command.contains("--hosts 3")
                && command.contains("--accept-s 9")
                && command.ends_with("--faults kill,swap-kill"),
            "{command}"
        );
        assert_eq!(parse(&command).command(7), command);
        assert!(!parse("./dev chaos").command(7).contains("--faults"));
    }
}
