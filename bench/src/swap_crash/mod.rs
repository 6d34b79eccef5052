//! Swaps plugins on one of two hosts while orders flow, and kills either host by SIGKILL in the middle of it.
//! Afterwards one version is active, the same on both hosts and in the database, and every order is counted.
//!
//! ```text
//!  told       PUT ── loads it ── writes that it is active ─┬─ swaps ── 200
//!              └── ✗ at any moment ──┘                     ✗ here, at a fault point
//!  following                                               └─ … asks, swaps
//!                                                              ✗ before
//! ```

mod pair;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crash::clients::{self, Flow, Plan};
use crate::crash::{self, milliseconds};
use crate::sample::Sample;
use crate::swapped::{PLUGINS, Swapped};
use anyhow::{Context, Result, ensure};
use saga_testkit::host_process::{StartOptions, on_fresh_stack};
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

use pair::Pair;

/// Until both hosts are on the new generation, from the request on.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(1);
/// A host asks that often what others have activated.
const FOLLOWS_WITHIN_MS: usize = 500;
const DOWN_MS_MAX: usize = 800;
/// Swaps until the moment of one kill was in the middle of one.
const TRIES_MAX: usize = 50;
/// More than are placed.
const ORDERS_MAX: usize = 100_000_000;
const PRODUCTS: usize = 20;
const STOCK: i64 = 1_000_000;
/// No product has this number: its orders are cancelled.
const UNKNOWN_PRODUCT: i64 = 2_000_000_000;

/// Options of `saga-bench swap-crash`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// How often a host is killed in the middle of a swap
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Swaps that nobody disturbs, before the first kill
    #[arg(long, default_value_t = 40)]
    swaps: usize,
    /// Clients that place orders
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Chooses products, quantities and moments; the same seed gives the same choices [default: from the
    /// clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds until all must be quiet at the end
    #[arg(long, default_value_t = 120)]
    quiet_s: u64,
}

/// When a host is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The host that was told, while it has not answered.
    Told,
    /// The same, when it has written what is active and not yet swapped.
    Written,
    /// The other one, while it still runs the version before.
    Following,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Told => "told, no answer yet",
            Self::Written => "told, between the database and the swap",
            Self::Following => "following, not yet there",
        })
    }
}

/// The kill of this number, from 0: when, and which of the two hosts.
fn chosen(number: usize) -> (Moment, usize) {
    let round = number / 2;
    let moment = match number % 4 {
        0 => Moment::Told,
        2 => Moment::Following,
        // A host reaches its fault point by the variable that it was started with: that of the last kill
        // does.
        _ => Moment::Written,
    };
    (moment, (round + round / 2) % 2)
}

/// Runs `saga-bench swap-crash`.
///
/// # Errors
/// Something could not be started, the hosts do not agree, an order was refused or lost, or an invariant is
/// broken.
pub async fn run(options: Options) -> Result<()> {
    on_fresh_stack(&options.start, async |target: &Target| swap_and_count(&options, target).await).await
}

async fn swap_and_count(options: &Options, target: &Target) -> Result<()> {
    let seed = Sample::seed(options.seed);
    output::line(&format!(
        "seed {seed}: {} clients, {} swaps, then {} kills",
        options.clients, options.swaps, options.kills
    ));
    let mut pair = Pair::start(&options.start, target).await?;
    let target = pair.target(0).clone();
    let products = crash::create_products(&target, PRODUCTS, STOCK).await?;
    let ordered = products.iter().copied().chain([UNKNOWN_PRODUCT]).collect();
    let addresses = vec![pair.target(0).http()?.to_owned(), pair.target(1).http()?.to_owned()];
    let plan = Plan { addresses, products: ordered, orders: ORDERS_MAX, seed };
    let flow = Arc::new(Flow::new(plan, Instant::now() + Duration::from_secs(3600)));
    let mut running = clients::start(&flow, options.clients);
    let mut report = Report::default();
    let swapped =
        swap_and_kill(options, &mut pair, &flow, Sample::new(seed ^ 0x7377_6170), &mut report).await;
    if swapped.is_ok() {
        flow.enough();
    } else {
        flow.give_up();
    }
    while running.join_next().await.is_some() {}
    let outcome = match swapped {
        Ok(()) => {
            let quiet_within = Duration::from_secs(options.quiet_s);
            crash::count(&target, &flow, &products, STOCK, quiet_within, &mut report).await
        }
        Err(error) => Err(error),
    };
    let stopped = pair.stop().await;
    outcome?;
    report.finish().and(stopped)
}

async fn swap_and_kill(
    options: &Options,
    pair: &mut Pair,
    flow: &Flow,
    mut sample: Sample,
    report: &mut Report,
) -> Result<()> {
    let mut plugins = Swapped::all(&options.start.plugins)?;
    report.area("swaps on one of two hosts");
    let answered = undisturbed(options, pair, &mut plugins, report).await?;
    let mut killed: BTreeMap<Moment, usize> = BTreeMap::new();
    let mut undone = 0;
    for number in 0..options.kills {
        let (moment, victim) = chosen(number);
        let plugin = &mut plugins[number / 8 % PLUGINS.len()];
        let accepted = flow.accepted();
        let within = answered.as_millis() as usize;
        let left = kill(moment, victim, pair, plugin, within, &mut sample)
            .await
            .with_context(|| format!("kill {}: {moment}", number + 1))?;
        let stands = pair.agreed(plugin.name(), &[1 - victim]).await?;
        let swapped = stands.digest != left;
        ensure!(
            swapped || moment == Moment::Told,
            "kill {}: {moment}, but {left} is active again",
            number + 1
        );
        undone += usize::from(!swapped);
        plugin.is_active(&stands.digest)?;
        tokio::time::sleep(milliseconds(sample.below(DOWN_MS_MAX))).await;
        let written_next = number + 1 < options.kills && chosen(number + 1).0 == Moment::Written;
        pair.restart(victim, written_next).await?;
        let again = pair.agreed(plugin.name(), &[0, 1]).await?;
        ensure!(again == stands, "kill {}: {again:?} after the restart, {stands:?} before", number + 1);
        *killed.entry(moment).or_default() += 1;
        output::line(&format!(
            "kill {}: {} ({moment}); both on generation {}, {} orders accepted meanwhile",
            number + 1,
            ["first host", "second host"][victim],
            again.generation,
            flow.accepted() - accepted
        ));
    }
    let told: Vec<String> = killed.iter().map(|(moment, times)| format!("{times} × {moment}")).collect();
    report.note(
        format!(
            "{} hosts killed in the middle of a swap ({}; {undone} of them before it counted): one active version each time, \
             the same on both hosts and in the database",
            options.kills,
            told.join("; ")
        ),
        Ok(()),
    );
    Ok(())
}

/// Gives how long a host takes to answer, at the median.
async fn undisturbed(
    options: &Options,
    pair: &Pair,
    plugins: &mut [Swapped],
    report: &mut Report,
) -> Result<Duration> {
    // Both versions of each are compiled before anything is timed.
    for number in 0..4 {
        plugins[number % 2].swap(pair.target(0)).await?;
        pair.agreed(plugins[number % 2].name(), &[0, 1]).await?;
    }
    let (mut answered, mut taken_over) = (Vec::new(), Vec::new());
    for number in 0..options.swaps {
        let plugin = &mut plugins[number % PLUGINS.len()];
        let began = Instant::now();
        plugin.swap(pair.target(number / 2 % 2)).await?;
        answered.push(began.elapsed());
        let stands = pair.agreed(plugin.name(), &[0, 1]).await?;
        taken_over.push(began.elapsed());
        ensure!(stands.digest == plugin.active(), "a swap that was answered is not active: {stands:?}");
    }
    answered.sort();
    taken_over.sort();
    let median = |sorted: &[Duration]| sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let slowest = taken_over.last().copied().unwrap_or_default();
    let holds =
        if slowest <= TAKEN_OVER_WITHIN { Ok(()) } else { Err(anyhow::anyhow!("later than promised")) };
    report.note(
        format!(
            "{} swaps under load: both hosts on the new generation {} ms after the request at the median, {} ms at the slowest \
             (answered after {} ms at the median); {} ms are promised",
            taken_over.len(),
            median(&taken_over).as_millis(),
            slowest.as_millis(),
            median(&answered).as_millis(),
            TAKEN_OVER_WITHIN.as_millis()
        ),
        holds,
    );
    Ok(median(&answered))
}

/// Swaps until a moment is in the middle of a swap, and kills there. Gives the digest that this swap was to
/// leave.
async fn kill(
    moment: Moment,
    victim: usize,
    pair: &mut Pair,
    plugin: &mut Swapped,
    answered_ms: usize,
    sample: &mut Sample,
) -> Result<String> {
    for _ in 0..TRIES_MAX {
        let left = plugin.active().to_owned();
        match moment {
            Moment::Told => {
                let delay = tokio::time::sleep(milliseconds(sample.below(answered_ms)));
                let in_the_middle = tokio::select! {
                    swapped = plugin.swap(pair.target(victim)) => swapped.map(|()| false)?,
                    () = delay => true,
                };
                if in_the_middle {
                    return pair.kill(victim).await.map(|()| left);
                }
            }
            Moment::Written => {
                ensure!(
                    plugin.swap(pair.target(victim)).await.is_err(),
                    "the host did not reach its fault point"
                );
                return pair.dies(victim).await.map(|()| left);
            }
            Moment::Following => {
                plugin.swap(pair.target(1 - victim)).await?;
                tokio::time::sleep(milliseconds(sample.below(FOLLOWS_WITHIN_MS))).await;
                if pair.runs(victim, plugin.name()).await?.digest == left {
                    return pair.kill(victim).await.map(|()| left);
                }
            }
        }
        pair.agreed(plugin.name(), &[0, 1]).await?;
    }
    anyhow::bail!("{TRIES_MAX} swaps were all over before a host could be killed")
}

#[cfg(test)]
mod tests {
    use super::{Moment, chosen};

    #[test]
    fn each_host_is_killed_at_each_moment_and_twice_in_a_row() {
        let kills: Vec<(Moment, usize)> = (0..8).map(chosen).collect();
        for moment in [Moment::Told, Moment::Written, Moment::Following] {
            assert!([0, 1].iter().all(|host| kills.contains(&(moment, *host))), "{moment}: {kills:?}");
        }
        assert!((0..50).step_by(2).all(|number| chosen(number).1 == chosen(number + 1).1));
    }
}
