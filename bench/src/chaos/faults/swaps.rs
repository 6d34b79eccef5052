//! Faults around swaps of plugins.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{DOWN_MS_MAX, sleep};
use crate::chaos::system::{FAULT_POINT, System};
use crate::sample::Sample;

/// The interval in which a host polls for activations of other hosts.
const FOLLOWS_WITHIN_MS: usize = 500;
/// The most attempts to kill a host during a swap.
const TRIES_MAX: usize = 50;

pub(super) async fn swap(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    let plugin = sample.below(system.plugins.len());
    let swapped = system.swap(plugin, host).await?;
    Ok(format!(
        "host {}: swap of {}, on every host after {} ms",
        host + 1,
        system.plugins[plugin].name(),
        swapped.everywhere.as_millis()
    ))
}

/// The moment in a swap at which a host is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The host that received the request, before it answers.
    Answering,
    /// The same host, after it has recorded the activation and before it runs the new version.
    Written,
    /// Another host, while it still runs the previous version.
    Following,
}

/// Afterwards one version is active, the same in the database and on every host, before and after the
/// restart.
pub(super) async fn swap_kill(system: &mut System, victim: usize, sample: &mut Sample) -> Result<String> {
    let moments = [Moment::Answering, Moment::Written, Moment::Following];
    // Only another host can activate a version that a host follows, so one host alone cannot be killed then.
    let moment = moments[sample.below(if system.hosts() == 1 { 2 } else { 3 })];
    let plugin = sample.below(system.plugins.len());
    let name = system.plugins[plugin].name().to_owned();
    let name = name.as_str();
    let previous = kill_in_swap(system, moment, victim, plugin, sample).await?;
    let others: Vec<usize> = (0..system.hosts()).filter(|host| *host != victim).collect();
    let survived = system.agreed(name, &others).await?;
    let swapped = survived.digest != previous;
    ensure!(swapped || moment == Moment::Answering, "{moment:?}: {previous} of {name} is active again");
    system.plugins[plugin].set_active(&survived.digest)?;
    sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(victim, &[]).await?;
    let restarted = system.agreed_everywhere(name).await?;
    ensure!(restarted == survived, "{name}: {restarted:?} after the restart, {survived:?} before");
    let when = match moment {
        Moment::Answering => "before it answered",
        Moment::Written => "between the database and the swap",
        Moment::Following => "before it followed another host",
    };
    let outcome = if swapped { "the new version" } else { "the previous version" };
    Ok(format!("host {}: SIGKILL in a swap of {name}, {when}; {outcome} is active", victim + 1))
}

/// Returns the digest that was active before the swap.
async fn kill_in_swap(
    system: &mut System,
    moment: Moment,
    victim: usize,
    plugin: usize,
    sample: &mut Sample,
) -> Result<String> {
    if moment == Moment::Written {
        // A host reads its fault point from its environment at the start.
        system.term(victim).await?;
        system.start(victim, &[FAULT_POINT.map(str::to_owned).into()]).await?;
    }
    for _ in 0..TRIES_MAX {
        let previous = system.plugins[plugin].active().to_owned();
        let killed = match moment {
            Moment::Answering => kill_answering(system, victim, plugin, sample).await?,
            Moment::Written => {
                let answered = system.request_swap(plugin, victim).await;
                ensure!(answered.is_err(), "the host did not reach its fault point");
                system.ended(victim).await.map(|()| true)?
            }
            Moment::Following => kill_following(system, victim, plugin, sample).await?,
        };
        if killed {
            return Ok(previous);
        }
        system.agreed_everywhere(system.plugins[plugin].name()).await?;
    }
    bail!("{TRIES_MAX} swaps were over before the host could be killed")
}

async fn kill_answering(
    system: &mut System,
    victim: usize,
    plugin: usize,
    sample: &mut Sample,
) -> Result<bool> {
    let answer_ms = system.answer_ms();
    let delay = tokio::time::sleep(Duration::from_millis(sample.below(answer_ms) as u64));
    let in_progress = tokio::select! {
        answered = system.request_swap(plugin, victim) => answered.map(|()| false)?,
        () = delay => true,
    };
    if in_progress {
        system.kill(victim).await?;
    }
    Ok(in_progress)
}

async fn kill_following(
    system: &mut System,
    victim: usize,
    plugin: usize,
    sample: &mut Sample,
) -> Result<bool> {
    let previous = system.plugins[plugin].active().to_owned();
    system.request_swap(plugin, (victim + 1) % system.hosts()).await?;
    sleep(sample.below(FOLLOWS_WITHIN_MS)).await;
    let behind = system.running(system.plugins[plugin].name(), victim).await?.digest == previous;
    if behind {
        system.kill(victim).await?;
    }
    Ok(behind)
}
