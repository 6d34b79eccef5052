//! Checks all invariants of the wire contract from outside, while the system is quiet. A consumer of its own
//! reads the topics from their first record; SQL reads the databases.

mod invariant;
mod ledger;
mod rows;

use std::time::Duration;

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::database::Databases;
use crate::quiet;
use crate::report::Report;
use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED, STOCK_CREATED, STOCK_UPDATED};
use crate::target::{Target, TargetOptions};
use crate::topic::{blocking, reader};

pub use ledger::Ledger;
pub use rows::{Order, Rows};

/// Deductions come before the stock records that they caused, so the ledger knows which changes users made.
const READING_ORDER: [&str; 6] =
    [ORDER_CREATED, DEDUCTED, REJECTED, STOCK_CREATED, STOCK_UPDATED, NOTIFICATIONS];

/// Options of `saga-testkit verify`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: TargetOptions,
    /// Seconds to wait until the system is quiet
    #[arg(long, default_value_t = 60)]
    wait_s: u64,
    /// Accept parked deliveries
    #[arg(long)]
    allow_parked: bool,
}

/// Runs `saga-testkit verify`.
///
/// # Errors
/// An invariant is broken, or Kafka or Postgres does not answer.
pub async fn run(options: Options) -> Result<()> {
    let mut report = Report::default();
    let target = options.target.target()?;
    let scope =
        Scope { allow_parked: options.allow_parked, ..Scope::all(Duration::from_secs(options.wait_s)) };
    check(&target, &scope, &mut report).await?;
    report.finish()
}

/// Which orders are checked, and how strictly.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// The limit for the system to become quiet.
    pub quiet_within: Duration,
    /// Whether parked deliveries are accepted.
    pub allow_parked: bool,
    /// Orders with a lower id are left out, since no topic names them.
    pub orders_from: Uuid,
}

impl Scope {
    /// All orders; parked deliveries are not accepted.
    #[must_use]
    pub fn all(quiet_within: Duration) -> Self {
        Self { quiet_within, allow_parked: false, orders_from: Uuid::nil() }
    }
}

/// Waits until the system is quiet and checks every invariant. Returns what it has read, for further checks.
///
/// # Errors
/// Kafka or Postgres does not answer. A broken invariant is a failed check in `report`.
pub async fn check(target: &Target, scope: &Scope, report: &mut Report) -> Result<(Ledger, Rows)> {
    let databases = Databases::new(&target.postgres)?;
    report.area("invariants of the quiet system");
    let motion = quiet::wait(target, &databases, scope.quiet_within).await?;
    report.note(
        "outboxes are empty, consumer lag is zero, no saga is in flight",
        motion.is_empty().then_some(()).ok_or_else(|| anyhow::anyhow!(motion.join("; "))),
    );
    let ledger = read_ledger(&target.kafka).await?;
    let rows = Rows::read(&databases, scope.orders_from).await?;
    databases.close().await;
    report.say(&format!("          {}", ledger.figures()));
    for (name, outcome) in invariant::all(&ledger, &rows) {
        report.note(name, outcome);
    }
    report.note(format!("{} deliveries are parked", rows.parked), parked(&rows, scope.allow_parked));
    Ok((ledger, rows))
}

fn parked(rows: &Rows, allowed: bool) -> Result<()> {
    ensure!(allowed || rows.parked == 0, "see `saga-host parked`");
    Ok(())
}

async fn read_ledger(brokers: &str) -> Result<Ledger> {
    let brokers = brokers.to_owned();
    blocking(move || {
        let mut ledger = Ledger::default();
        for topic in READING_ORDER {
            reader::read_all(&brokers, &[topic], |record| ledger.add(&record))?;
        }
        Ok(ledger)
    })
    .await
}
