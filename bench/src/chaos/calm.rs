//! Swaps without faults: how soon every host runs the new version, and whether clients notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::handled::Handled;
use super::orders::Orders;
use super::pause;
use super::system::System;
use super::versions::PLUGINS;
use saga_testkit::caller::Request;
use saga_testkit::report::Report;

const SWAPS: usize = 8;
/// How long the load runs before the first swap, and between two swaps.
const SPACING: Duration = Duration::from_millis(400);
/// Routes of all plugins, also of those that are not swapped.
const ROUTES: [&str; 3] =
    ["/orders?limit=1", "/stocks?limit=1", "/notifications?orderId=00000000-0000-0000-0000-000000000000"];

/// Times of the swaps, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Calm {
    swaps: usize,
    answered_p50: u128,
    everywhere_p50: u128,
    everywhere_max: u128,
    /// The longest time without an accepted order, between swaps and during them.
    pause_between_max: u128,
    pause_during_max: u128,
}

/// Swaps each plugin to its other version and back, so that later swaps do not compile.
pub(super) async fn compile(system: &mut System) -> Result<()> {
    for plugin in 0..PLUGINS.len() {
        system.swap(plugin, 0).await?;
        system.swap(plugin, 0).await?;
    }
    Ok(())
}

/// Swaps under load, while clients place `orders`. Every host must run a new version within `limit`.
pub(super) async fn swap(
    system: &mut System,
    orders: &Orders,
    limit: Duration,
    report: &mut Report,
) -> Result<Calm> {
    let failed_before = orders.failed_attempts();
    let (mut answered, mut everywhere) = (Vec::new(), Vec::new());
    let (mut between, mut during) = (Duration::ZERO, Duration::ZERO);
    let mut handled = PLUGINS.map(Handled::of);
    for number in 0..SWAPS {
        let ((), pause) = pause::longest(orders, tokio::time::sleep(SPACING)).await;
        between = between.max(pause);
        let (plugin, host) = (number % PLUGINS.len(), number / PLUGINS.len() % system.hosts());
        handled[plugin].count(system).await?;
        let (swapped, pause) = pause::longest(orders, system.swap(plugin, host)).await;
        during = during.max(pause);
        let swapped = swapped?;
        answered.push(swapped.answered.as_millis());
        everywhere.push(swapped.everywhere.as_millis());
        all_routes_answer(system).await?;
    }
    answered.sort_unstable();
    everywhere.sort_unstable();
    let calm = Calm {
        swaps: SWAPS,
        answered_p50: answered[SWAPS / 2],
        everywhere_p50: everywhere[SWAPS / 2],
        everywhere_max: everywhere[SWAPS - 1],
        pause_between_max: between.as_millis(),
        pause_during_max: during.as_millis(),
    };
    calm.check(orders.failed_attempts() - failed_before, &handled, limit, report);
    Ok(calm)
}

async fn all_routes_answer(system: &System) -> Result<()> {
    for host in 0..system.hosts() {
        for route in ROUTES {
            Request::get(route).send(system.target(host).http()?).await?.expect(200)?;
        }
    }
    Ok(())
}

impl Calm {
    fn check(&self, failed: usize, handled: &[Handled], limit: Duration, report: &mut Report) {
        report.area("swaps without faults");
        report.note(
            format!(
                "{} swaps under load: every host on the new version {} ms after the request at the median, \
                 {} ms at the slowest (answered after {} ms at the median); at most {} ms are promised",
                self.swaps,
                self.everywhere_p50,
                self.everywhere_max,
                self.answered_p50,
                limit.as_millis()
            ),
            within(self.everywhere_max, limit),
        );
        report.note("no request failed during them", none(failed));
        for (name, outcome) in handled.iter().map(Handled::check) {
            report.note(name, outcome);
        }
        report.say(&format!(
            "          longest time without an accepted order: {} ms during a swap, {} ms between swaps",
            self.pause_during_max, self.pause_between_max
        ));
    }
}

fn within(everywhere_ms: u128, limit: Duration) -> Result<()> {
    ensure!(
        everywhere_ms <= limit.as_millis(),
        "later than promised; raise --swap-ms-max for a slow build or machine"
    );
    Ok(())
}

fn none(failed: usize) -> Result<()> {
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}
