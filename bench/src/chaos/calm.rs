//! Swaps without faults: how soon every host runs the new version, and whether clients notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::calls::Calls;
use super::handled::Handled;
use super::recovery::longest_pause;
use super::system::System;
use saga_testkit::caller::Request;
use saga_testkit::report::Report;

const SWAPS: usize = 8;
/// How long the load runs before the first swap, and between two swaps.
const SPACING: Duration = Duration::from_millis(400);
/// Times of the swaps, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Calm {
    swaps: usize,
    answered_p50: u128,
    everywhere_p50: u128,
    everywhere_max: u128,
    /// The longest time without an accepted request, between swaps and during them.
    pause_between_max: u128,
    pause_during_max: u128,
}

/// Swaps each plugin to its other version and back, so that later swaps do not compile.
pub(super) async fn compile(system: &mut System) -> Result<()> {
    for plugin in 0..system.plugins.len() {
        system.swap(plugin, 0).await?;
        system.swap(plugin, 0).await?;
    }
    Ok(())
}

/// Swaps under load, while clients send `calls`. Every host must run a new version within `limit`.
pub(super) async fn swap(
    system: &mut System,
    calls: &Calls,
    limit: Duration,
    report: &mut Report,
) -> Result<Calm> {
    let failed_before = calls.failed_attempts();
    let (mut answered, mut everywhere) = (Vec::new(), Vec::new());
    let (mut between, mut during) = (Vec::new(), Vec::new());
    let mut handled: Vec<Handled> = system.plugins.iter().map(Handled::of).collect();
    for number in 0..SWAPS {
        let began = calls.started().elapsed();
        tokio::time::sleep(SPACING).await;
        between.push((began, calls.started().elapsed()));
        let plugins = system.plugins.len();
        let (plugin, host) = (number % plugins, number / plugins % system.hosts());
        handled[plugin].count(system).await?;
        let began = calls.started().elapsed();
        let swapped = system.swap(plugin, host).await?;
        during.push((began, calls.started().elapsed()));
        answered.push(swapped.answered.as_millis());
        everywhere.push(swapped.everywhere.as_millis());
        all_routes_answer(system).await?;
    }
    answered.sort_unstable();
    everywhere.sort_unstable();
    // So that the pause of the last swap has ended.
    tokio::time::sleep(SPACING).await;
    let timings = calls.timings();
    let longest = |windows: &[(Duration, Duration)]| {
        let each = windows.iter().map(|(from, to)| longest_pause(&timings, *from, *to).as_millis());
        each.max().unwrap_or_default()
    };
    let calm = Calm {
        swaps: SWAPS,
        answered_p50: answered[SWAPS / 2],
        everywhere_p50: everywhere[SWAPS / 2],
        everywhere_max: everywhere[SWAPS - 1],
        pause_between_max: longest(&between),
        pause_during_max: longest(&during),
    };
    calm.check(calls.failed_attempts() - failed_before, &handled, limit, report);
    Ok(calm)
}

async fn all_routes_answer(system: &System) -> Result<()> {
    for host in 0..system.hosts() {
        for route in &system.description.routes {
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
            "          longest time without an accepted request: {} ms during a swap, {} ms between swaps",
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
