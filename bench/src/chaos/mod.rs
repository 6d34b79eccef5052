//! Runs the order system under a seeded schedule of faults, and afterwards counts the outcome of every order.
//!
//! ```text
//!  seed ──▶ schedule ──▶ run ──▶ calm, faults ──▶ system: N hosts on one fresh Postgres and Kafka
//!                         │                          ▲
//!                         │               orders ────┘ each sent under one id until a host accepts it
//!                         └──▶ count (verify, account, sequence) ──▶ summary
//! ```
//!
//! A new fault is one variant of [`Fault`] and one function in `faults`.

mod account;
mod calm;
mod count;
mod faults;
mod handled;
mod orders;
mod pause;
mod run;
mod schedule;
mod sequence;
mod summary;
mod system;
mod versions;

use std::path::PathBuf;

use anyhow::Result;

use saga_testkit::host_process::{StartOptions, on_fresh_stack};
use saga_testkit::target::Target;

pub use faults::Fault;

/// Options of `saga-bench chaos`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// Hosts on the same Kafka and Postgres
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    hosts: u8,
    /// Seconds over which orders and faults are spread
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// Orders to place, evenly over that time
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(1..))]
    orders: u64,
    /// Faults to choose from
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::ALL)]
    faults: Vec<Fault>,
    /// Chooses orders, faults, hosts and moments; the same seed chooses the same [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Clients that place the orders
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Products that the orders ask for
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    products: u16,
    /// Pieces of each product; an order asks for 1 to 3 [default: three fifths of what the orders ask for]
    #[arg(long)]
    stock: Option<i64>,
    /// Seconds after the last fault until every order must be accepted
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
}

impl Options {
    /// The default leaves some orders without stock: an order asks for two pieces on average.
    fn stock(&self) -> i64 {
        let asked = 2 * self.orders / u64::from(self.products);
        self.stock.unwrap_or_else(|| i64::try_from(asked * 3 / 5).unwrap_or(i64::MAX))
    }

    /// The command line that repeats the run.
    fn command(&self, seed: u64) -> String {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        format!(
            "saga-bench chaos --seed {seed} --hosts {} --seconds {} --orders {} --clients {} --products {} \
             --swap-ms-max {} --stock {} --faults {}",
            self.hosts,
            self.seconds,
            self.orders,
            self.clients,
            self.products,
            self.swap_ms_max,
            self.stock(),
            faults.join(",")
        )
    }
}

/// Runs `saga-bench chaos`.
///
/// # Errors
/// Something cannot be started, a fault cannot be injected or does not heal, or an invariant is broken.
pub async fn run(options: Options) -> Result<()> {
    on_fresh_stack(&options.start, async |target: &Target| run::run(&options, target).await).await
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
    fn the_default_stock_is_less_than_the_orders_ask_for() {
        for (orders, products, stock) in [(2_000, 20, 120), (500, 20, 30), (3, 1, 3)] {
            let options = parse(&format!("saga-bench chaos --orders {orders} --products {products}"));
            assert_eq!(options.stock(), stock);
        }
    }

    #[test]
    fn the_command_line_of_a_report_repeats_its_run() {
        let command = parse("saga-bench chaos --hosts 3 --faults kill,swap-kill --stock 9").command(7);
        assert!(command.contains("--hosts 3") && command.ends_with("--stock 9 --faults kill,swap-kill"));
        assert_eq!(parse(&command).command(7), command);
    }
}
