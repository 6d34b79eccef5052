//! Levels on one running host, and the account of the orders that they placed. A session shows no figure when
//! its host broke an invariant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::closed;
use super::level::{Level, Observed};
use super::measure::{Moment, Watched};
use super::open::{self, Offer};
use super::outcome::{Outcome, Phase, Window};
use super::products::Products;
use super::shape::{Demand, Shape};
use super::units::Units;
use super::written::Written;
use saga_testkit::database::Databases;
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;
use saga_testkit::verify::{self, Scope};

/// The wait between the end of the load and the reading of Postgres's counters, which are up to a second
/// late.
const SETTLE: Duration = Duration::from_millis(2500);
/// The limit for the system to become quiet after the last level. An order whose client gave up may still
/// wait for its deadline.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
const ORDERS: &str = "SELECT count(*) FROM public.customer_order";

/// One running host under load.
pub struct Session<'a> {
    target: &'a Target,
    shape: &'a Shape,
    databases: Databases,
    products: Products,
    account: Account,
}

/// What the clients know about the orders that they placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    /// Orders that existed before.
    before: u64,
    /// Answers 201.
    accepted: u64,
    /// Orders without a 201: each may exist or not.
    uncertain: u64,
    /// Confirmed without stock, or cancelled with enough stock.
    wrong: u64,
}

impl<'a> Session<'a> {
    /// Creates the products that the load orders.
    ///
    /// # Errors
    /// The host refuses them, or Postgres is unreachable.
    pub async fn begin(target: &'a Target, shape: &'a Shape) -> Result<Self> {
        let databases = Databases::new(&target.postgres)?;
        let before = u64::try_from(databases.count("cmd-order", ORDERS).await?)?;
        let products = Products::create(target.http()?, shape.products, shape.empty_products).await?;
        let account = Account { before, accepted: products.ordered(), ..Account::default() };
        Ok(Self { target, shape, databases, products, account })
    }

    /// The databases of the host under load.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// Warms up and measures.
    ///
    /// # Errors
    /// Postgres is unreachable, or no saga ended.
    pub async fn level(&mut self, demand: Demand) -> Result<Level> {
        output::line(&format!(
            "{demand}: {} s warm-up, {} s measured",
            self.shape.warmup_s, self.shape.measure_s
        ));
        let watched = Watched::of(self.target);
        watched.reset_peaks();
        let written = Written::now(&self.databases, &self.target.kafka).await?;
        let window = Arc::new(Window::default());
        window.enter(Phase::WarmUp);
        let began = Instant::now();
        let running = self.start(demand, &window, began)?;
        tokio::time::sleep_until((began + self.shape.warmup()).into()).await;
        let before = Moment::now(&watched);
        window.enter(Phase::Measure);
        let units = Units::now(self.target).await;
        tokio::time::sleep_until((began + self.shape.warmup() + self.shape.measure()).into()).await;
        window.enter(Phase::Stop);
        let after = Moment::now(&watched);
        let memory = watched.memory();
        let batches = Units::now(self.target).await.since(&units);
        let outcome = joined(running).await?;
        self.account.add(&outcome);
        ensure!(outcome.ended > 0, "{demand}: no saga ended");
        tokio::time::sleep(SETTLE).await;
        let now = Written::now(&self.databases, &self.target.kafka).await?;
        let per_saga = now.per_saga_since(&written, outcome.sagas_in_all);
        Ok(Level::of(Observed { demand, outcome, before, after, memory, per_saga, batches }))
    }

    fn start(&self, demand: Demand, window: &Arc<Window>, began: Instant) -> Result<JoinSet<Outcome>> {
        let addresses = self.target.https()?;
        let orders = |seed| self.products.orders(seed, self.shape.empty_percent);
        let mut running = JoinSet::new();
        match demand {
            Demand::Clients(clients) => {
                for number in 0..clients {
                    let address = addresses[number % addresses.len()].to_owned();
                    running.spawn(closed::run(address, orders(number as u64), Arc::clone(window)));
                }
            }
            Demand::Rate { per_s, in_flight_max } => {
                let schedule = self.shape.schedule(per_s);
                let address = addresses[0].to_owned();
                let offer = Offer { address, schedule, in_flight_max, began };
                running.spawn(open::run(offer, orders(0), Arc::clone(window)));
            }
        }
        Ok(running)
    }

    /// Waits until the system is quiet, then checks every invariant, and whether the orders are those that
    /// were placed. Orders below `orders_from` are left out: they did not come through the host.
    ///
    /// # Errors
    /// Kafka or Postgres is unreachable. A broken invariant is a failed check in `report`.
    pub async fn check(&self, orders_from: Uuid, report: &mut Report) -> Result<()> {
        let scope = Scope { quiet_within: QUIET_WITHIN, allow_parked: false, orders_from };
        let (_, rows) = verify::check(self.target, &scope, report).await?;
        report.area("what the clients know");
        for (name, outcome) in self.account.checks(rows.orders.len() as u64) {
            report.note(name, outcome);
        }
        self.databases.close().await;
        Ok(())
    }
}

async fn joined(mut running: JoinSet<Outcome>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    while let Some(one) = running.join_next().await {
        outcome.add(one.context("a client ended early")?);
    }
    Ok(outcome)
}

impl Account {
    fn add(&mut self, outcome: &Outcome) {
        self.accepted += outcome.accepted_in_all;
        self.uncertain += outcome.uncertain_in_all;
        self.wrong += outcome.wrong_in_all;
    }

    fn checks(self, orders: u64) -> [(String, Result<()>); 2] {
        let Self { before, accepted, uncertain, wrong } = self;
        let least = before + accepted;
        let there = match orders {
            orders if orders < least => Err(anyhow!("{orders} orders: {} are lost", least - orders)),
            orders if orders > least + uncertain => Err(anyhow!("{orders} orders: some were placed twice")),
            _ => Ok(()),
        };
        let name = match (before, uncertain) {
            (0, 0) => format!("as many orders as 201 answers: {accepted}"),
            _ => {
                format!(
                    "as many orders as {before} before, {accepted} answers 201 and up to {uncertain} without \
                     a 201"
                )
            }
        };
        let right = if wrong == 0 { Ok(()) } else { Err(anyhow!("{wrong} ended in the other way")) };
        [(name, there), ("orders with stock were confirmed, those without cancelled".to_owned(), right)]
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn an_order_that_is_lost_or_placed_twice_or_ended_wrongly_is_seen() {
        let account = Account { before: 5, accepted: 100, uncertain: 2, wrong: 0 };
        let holds = |account: Account, orders| account.checks(orders).map(|(_, outcome)| outcome.is_ok());
        for (orders, there) in [(104, false), (105, true), (107, true), (108, false)] {
            assert_eq!(holds(account, orders), [there, true], "{orders}");
        }
        assert_eq!(holds(Account { wrong: 1, ..account }, 105), [true, false]);
    }
}
