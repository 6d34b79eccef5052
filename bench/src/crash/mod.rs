//! Kills the host by SIGKILL while orders flow, starts it again, and counts afterwards what became of every
//! order.
//!
//! ```text
//!  stack (Postgres, Kafka) ── stays up all the time
//!  run ──✗ run ──✗ run ──✗ run ── stays up, until all is quiet
//!  clients: every order again and again under the same orderId, until a 201
//! ```

pub(crate) mod clients;
mod count;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::host_process::{HostProcess, StartOptions, on_fresh_stack};
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;
use saga_testkit::verify::{self, Scope};

use clients::{Flow, Plan};

const POLL: Duration = Duration::from_millis(2);
const KILL_DELAY_MS_MAX: usize = 60;
const DOWN_MS_MAX: usize = 800;

/// Options of `saga-bench crash`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// Orders to place
    #[arg(long, default_value_t = 2000)]
    orders: usize,
    /// Products that they ask for
    #[arg(long, default_value_t = 20)]
    products: usize,
    /// Pieces of each product; an order asks for 1 to 3 [default: three fifths of what the orders will ask
    /// for]
    #[arg(long)]
    stock: Option<i64>,
    /// Clients that place the orders
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// How often the host is killed
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Chooses products, quantities and moments; the same seed gives the same choices [default: from the
    /// clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds until every order must be accepted
    #[arg(long, default_value_t = 240)]
    place_s: u64,
    /// Seconds until all must be quiet after that
    #[arg(long, default_value_t = 120)]
    quiet_s: u64,
}

/// Runs `saga-bench crash`.
///
/// # Errors
/// Something could not be started, an order was refused or lost, or an invariant is broken.
pub async fn run(options: Options) -> Result<()> {
    on_fresh_stack(&options.start, async |target: &Target| kill_and_count(&options, target).await).await
}

async fn kill_and_count(options: &Options, target: &Target) -> Result<()> {
    let seed = Sample::seed(options.seed);
    let stock = options.stock.unwrap_or_else(|| stock_for(options.orders, options.products));
    output::line(&format!(
        "seed {seed}: {} orders, {} products of {stock}, {} clients, {} kills",
        options.orders, options.products, options.clients, options.kills
    ));
    let mut host = HostProcess::run(&options.start, target).await?;
    let products = create_products(target, options.products, stock).await?;
    let plan = Plan {
        addresses: vec![target.http()?.to_owned()],
        products: products.clone(),
        orders: options.orders,
        seed,
    };
    let flow = Arc::new(Flow::new(plan, Instant::now() + Duration::from_secs(options.place_s)));
    let mut running = clients::start(&flow, options.clients);
    let killed = kill(options, target, &flow, &mut host, seed).await;
    if killed.is_err() {
        flow.give_up();
    }
    while running.join_next().await.is_some() {}
    let mut report = Report::default();
    let outcome = match killed {
        Ok(()) => {
            let quiet_within = Duration::from_secs(options.quiet_s);
            count(target, &flow, &products, stock, quiet_within, &mut report).await
        }
        Err(error) => Err(error),
    };
    let stopped = host.stop().await;
    outcome?;
    report.finish().and(stopped)
}

/// So that some orders are confirmed and some cancelled: an order asks for two pieces on average.
fn stock_for(orders: usize, products: usize) -> i64 {
    let asked = 2 * orders / products.max(1);
    i64::try_from(asked * 3 / 5).unwrap_or(i64::MAX)
}

/// The numbers of so many products, each with this stock.
pub(crate) async fn create_products(target: &Target, count: usize, stock: i64) -> Result<Vec<i64>> {
    let mut products = Vec::new();
    for _ in 0..count {
        let body = format!(r#"{{"qty":{stock}}}"#);
        let reply = Request::post("/stocks", body).send(target.http()?).await?.expect(201)?;
        products.extend(reply.member("productId")?.as_i64());
    }
    ensure!(products.len() == count, "a product without a number");
    Ok(products)
}

/// Kills and restarts, each time when a random part of the orders has been accepted.
async fn kill(
    options: &Options,
    target: &Target,
    flow: &Flow,
    host: &mut HostProcess,
    seed: u64,
) -> Result<()> {
    let mut sample = Sample::new(seed ^ 0x6b69_6c6c);
    let share = options.orders / (options.kills + 1);
    for number in 1..=options.kills {
        let after = (number * share).saturating_sub(share / 2) + sample.below(share);
        while flow.accepted() < after && !flow.over() {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(milliseconds(sample.below(KILL_DELAY_MS_MAX))).await;
        let (accepted, open) = (flow.accepted(), flow.open());
        host.kill().await?;
        output::line(&format!("kill {number}: {accepted} orders accepted, {open} requests open"));
        ensure!(accepted < options.orders, "the orders were over before kill {number}; raise --orders");
        tokio::time::sleep(milliseconds(sample.below(DOWN_MS_MAX))).await;
        let began = Instant::now();
        *host = HostProcess::run(&options.start, target).await?;
        output::line(&format!("        ready again after {:.1} s", began.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Compares what the clients know with what is there when all is quiet.
pub(crate) async fn count(
    target: &Target,
    flow: &Flow,
    products: &[i64],
    stock: i64,
    quiet_within: Duration,
    report: &mut Report,
) -> Result<()> {
    let placed = flow.placed()?;
    output::line(&format!(
        "{} orders accepted, {} attempts failed on the way",
        placed.len(),
        flow.failed_attempts()
    ));
    report.area("orders");
    report.note(format!("all {} orders were accepted in the end", flow.wanted()), flow.complete());
    let (_, rows) = verify::check(target, &Scope::all(quiet_within), report).await?;
    report.area("what the clients know");
    for (name, outcome) in count::all(&placed, &rows, products, stock) {
        report.note(name, outcome);
    }
    report
        .run(
            "an accepted order that is placed again is answered the same",
            count::repeat(target.http()?, &placed),
        )
        .await;
    Ok(())
}

pub(crate) fn milliseconds(count: usize) -> Duration {
    Duration::from_millis(count as u64)
}

#[cfg(test)]
mod tests {
    use super::stock_for;

    #[test]
    fn there_is_less_stock_than_orders_ask_for() {
        assert_eq!(
            [(2_000, 20), (500, 20), (3, 1)].map(|(orders, products)| stock_for(orders, products)),
            [120, 30, 3]
        );
    }
}
