//! One run, from the first host to the report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::calm::{self, Calm};
use super::count;
use super::faults;
use super::orders::{Orders, Plan};
use super::pause;
use super::schedule;
use super::summary::{Injected, Summary};
use super::system::System;
use super::{Fault, Options};
use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

/// What happened while the clients placed orders.
#[derive(Default)]
struct Happened {
    calm: Option<Calm>,
    faults: Vec<Injected>,
    /// Faults of the schedule that were too late, or came after one that did not heal.
    skipped: usize,
}

pub(super) async fn run(options: &Options, stack: &Target) -> Result<()> {
    let seed = Sample::seed(options.seed);
    let stock = options.stock();
    output::line(&format!(
        "seed {seed}: {} hosts, {} orders over {} s, {} products of {stock}, {} clients",
        options.hosts, options.orders, options.seconds, options.products, options.clients
    ));
    let mut system = System::start_all(&options.start, stack, usize::from(options.hosts)).await?;
    if options.faults.iter().copied().any(Fault::swaps) {
        calm::compile(&mut system).await?;
    }
    let products = create_products(system.target(0), usize::from(options.products), stock).await?;
    let over = Duration::from_secs(options.seconds);
    let plan = Plan {
        addresses: system.addresses()?,
        products: products.clone(),
        orders: usize::try_from(options.orders)?,
        over,
        seed,
    };
    // The deadline counts from the last fault, which may start late.
    let orders = Arc::new(Orders::new(plan, Instant::now() + over * 10));
    let (mut report, mut happened) = (Report::default(), Happened::default());
    let mut clients = orders.start(options.clients);
    let driven = drive(options, seed, &mut system, &orders, &mut report, &mut happened).await;
    match &driven {
        Ok(()) => orders.accept_within(Duration::from_secs(options.accept_s)),
        Err(_) => orders.give_up(),
    }
    while clients.join_next().await.is_some() {}
    let counts = match driven {
        Ok(()) => {
            let (target, quiet_within) = (system.target(0).clone(), Duration::from_secs(options.quiet_s));
            count::all(&target, &orders, &products, stock, quiet_within, &mut report).await.map(Some)
        }
        Err(error) => Err(error),
    };
    report.area("the run");
    let counts = counts.unwrap_or_else(|error| {
        report.note("every fault was injected and healed, and all orders were counted", Err(error));
        None
    });
    report.run("every host ends at SIGTERM with status 0", system.stop()).await;
    let summary = Summary {
        seed,
        hosts: options.hosts,
        seconds: options.seconds,
        orders: options.orders,
        command: options.command(seed),
        calm: happened.calm,
        faults: happened.faults,
        skipped: happened.skipped,
        failed_attempts: orders.failed_attempts(),
        counts,
    };
    summary.release(&report, options.json.as_deref())
}

/// Swaps without faults, then the schedule of faults.
async fn drive(
    options: &Options,
    seed: u64,
    system: &mut System,
    orders: &Orders,
    report: &mut Report,
    happened: &mut Happened,
) -> Result<()> {
    if options.faults.iter().copied().any(Fault::swaps) {
        let limit = Duration::from_millis(options.swap_ms_max);
        happened.calm = Some(calm::swap(system, orders, limit, report).await?);
    }
    output::line("\nfaults");
    let schedule = schedule::draw(seed, &options.faults, system.hosts(), options.seconds);
    happened.skipped = schedule.len();
    for planned in schedule {
        tokio::time::sleep_until((orders.started() + planned.at).into()).await;
        if orders.over() {
            output::line(&format!("{} faults skipped: all orders were accepted before", happened.skipped));
            break;
        }
        let at = orders.started().elapsed();
        let timed = async {
            let start = Instant::now();
            let done = faults::inject(system, &planned).await;
            (done, start.elapsed())
        };
        let ((done, healed), pause) = pause::longest(orders, timed).await;
        let done = done.with_context(|| format!("at {:.1} s", at.as_secs_f64()))?;
        let injected = Injected::new(planned.fault, done, at, healed, pause);
        output::line(&injected.line());
        happened.faults.push(injected);
        happened.skipped -= 1;
    }
    Ok(())
}

/// Creates `count` products with this stock each, and returns their numbers.
async fn create_products(target: &Target, count: usize, stock: i64) -> Result<Vec<i64>> {
    let mut products = Vec::new();
    for _ in 0..count {
        let body = format!(r#"{{"qty":{stock}}}"#);
        let reply = Request::post("/stocks", body).send(target.http()?).await?.expect(201)?;
        products.extend(reply.member("productId")?.as_i64());
    }
    ensure!(products.len() == count, "a product without a number");
    Ok(products)
}
