//! The faults. Each function injects one, and returns when the system has healed, with a description of what
//! was done.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::schedule::Planned;
use super::system::{FAULT_POINT, System};
use crate::sample::Sample;

const DOWN_MS_MAX: usize = 800;
/// Longer than the consumers' session time-out of 6 s. Some stops are longer than a lane's lease of 10 s,
/// too.
const STOPPED_MS_MIN: usize = 7_000;
const STOPPED_MS_SPREAD: usize = 6_000;
const BROKER_STOPPED_MS_MIN: usize = 1_000;
const BROKER_STOPPED_MS_SPREAD: usize = 7_000;
/// The interval in which a host polls for activations of other hosts.
const FOLLOWS_WITHIN_MS: usize = 500;
/// The most attempts to kill a host during a swap.
const TRIES_MAX: usize = 50;
/// One session of a lane.
const SESSION: &str = "SELECT pid::bigint FROM pg_stat_activity
    WHERE usename = 'plugin_inventory_command' ORDER BY pid LIMIT 1";

/// What can be done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A host is killed by SIGKILL and started again
    Kill,
    /// A host ends at SIGTERM and is started again
    Term,
    /// A host is stopped by SIGSTOP until others have taken its partitions, then continued
    Stop,
    /// A plugin is swapped to its other version
    Swap,
    /// A host is killed by SIGKILL in the middle of a swap, and started again
    SwapKill,
    /// A session of Postgres is killed by SIGKILL: the server drops all others and recovers from its log
    Postgres,
    /// The Kafka broker is stopped by SIGSTOP, then continued
    Kafka,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Term, Self::Stop, Self::Swap, Self::SwapKill, Self::Postgres, Self::Kafka];

    /// Whether it swaps plugins.
    pub(super) fn swaps(self) -> bool {
        matches!(self, Self::Swap | Self::SwapKill)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Injects a fault and waits until every host is ready again.
///
/// # Errors
/// It could not be injected, the system did not heal in time, or the hosts disagree on a plugin's version.
pub(super) async fn inject(system: &mut System, planned: &Planned) -> Result<String> {
    let (host, mut sample) = (planned.host, Sample::new(planned.seed));
    let sample = &mut sample;
    let done = match planned.fault {
        Fault::Kill => kill(system, host, sample).await,
        Fault::Term => term(system, host, sample).await,
        Fault::Stop => stop(system, host, sample).await,
        Fault::Swap => swap(system, host, sample).await,
        Fault::SwapKill => swap_kill(system, host, sample).await,
        Fault::Postgres => postgres(system).await,
        Fault::Kafka => kafka(system, sample).await,
    };
    let done = done.with_context(|| format!("{} on host {}", planned.fault, host + 1))?;
    system.all_ready().await?;
    Ok(done)
}

async fn kill(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    system.kill(host).await?;
    let down = sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(host, &[]).await?;
    Ok(format!("host {}: SIGKILL, started again after {down} ms", host + 1))
}

async fn term(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    system.term(host).await?;
    let down = sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(host, &[]).await?;
    Ok(format!("host {}: SIGTERM, started again after {down} ms", host + 1))
}

async fn stop(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    let process = system.process(host)?;
    process.freeze();
    let stopped = sleep(STOPPED_MS_MIN + sample.below(STOPPED_MS_SPREAD)).await;
    process.thaw();
    Ok(format!("host {}: SIGSTOP, SIGCONT after {stopped} ms", host + 1))
}

async fn swap(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
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
async fn swap_kill(system: &mut System, victim: usize, sample: &mut Sample) -> Result<String> {
    let moments = [Moment::Answering, Moment::Written, Moment::Following];
    // Only another host can activate a version that a host follows, so one host alone cannot be killed then.
    let moment = moments[sample.below(if system.hosts() == 1 { 2 } else { 3 })];
    let plugin = sample.below(system.plugins.len());
    let name = system.plugins[plugin].name();
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
        system.start(victim, &[FAULT_POINT]).await?;
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

async fn postgres(system: &System) -> Result<String> {
    let session = system.databases.count("cmd-inventory", SESSION).await?;
    signal(i32::try_from(session)?, Signal::KILL)?;
    Ok("Postgres: a session killed, recovery from the log".to_owned())
}

async fn kafka(system: &System, sample: &mut Sample) -> Result<String> {
    let broker = system.stack.pids.kafka.context("the stack has no Kafka process; is Java installed?")?;
    let broker = i32::try_from(broker)?;
    signal(broker, Signal::STOP)?;
    let stopped = sleep(BROKER_STOPPED_MS_MIN + sample.below(BROKER_STOPPED_MS_SPREAD)).await;
    signal(broker, Signal::CONT)?;
    Ok(format!("Kafka: SIGSTOP, SIGCONT after {stopped} ms"))
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("a process id of 0")?;
    kill_process(pid, signal).with_context(|| format!("signal {signal:?} to process {pid:?}"))
}

async fn sleep(ms: usize) -> usize {
    tokio::time::sleep(Duration::from_millis(ms as u64)).await;
    ms
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::Fault;

    #[test]
    fn a_fault_is_read_by_the_name_it_is_written_with() {
        assert_eq!(Fault::ALL, Fault::value_variants());
        for fault in Fault::ALL {
            assert_eq!(Fault::from_str(&fault.to_string(), false), Ok(fault));
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.to_string());
        }
    }
}
