//! Faults of topics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::chaos::calls::Calls;
use crate::chaos::check::Archive;
use crate::chaos::system::System;
use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::topic::change;

const MORE_MAX: usize = 3;
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// How long hosts may take to see that a topic was made anew.
const SEEN_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

fn one<'a>(topics: &'a [String], sample: &mut Sample) -> Result<&'a str> {
    topics.get(sample.below(topics.len())).map(String::as_str).context("the system's file names no topic")
}

pub(super) async fn partitions(system: &System, sample: &mut Sample) -> Result<String> {
    let topic = one(&system.description.topics.grow, sample)?;
    let more = 1 + sample.below(MORE_MAX);
    let total = change::add_partitions(&system.linked.direct.kafka, topic, i32::try_from(more)?).await?;
    Ok(format!("{topic} has {total} partitions, {more} of them new"))
}

/// While nothing flows, so that every record of the old topic was handled. The clients wait meanwhile.
pub(super) async fn anew(
    system: &mut System,
    calls: &Calls,
    archive: &mut Archive,
    sample: &mut Sample,
) -> Result<String> {
    let topic = one(&system.description.topics.anew, sample)?.to_owned();
    let held = async {
        calls.hold(QUIET_WITHIN).await?;
        let motion = system.quiet(QUIET_WITHIN).await?;
        ensure!(motion.is_empty(), "not quiet before a topic is deleted: {}", motion.join("; "));
        let kafka = &system.linked.direct.kafka;
        archive.keep(kafka, &topic).await?;
        change::make_anew(kafka, &topic).await
    };
    let made = held.await;
    let seen = match made {
        Ok(()) => follow(system, &topic).await,
        Err(error) => Err(error),
    };
    calls.go_on();
    Ok(format!("{topic} was deleted and created again; {}", seen?))
}

/// A host that stays ready reads the new topic from its start. A host that reports that it does not read the
/// topic gets what it asks an operator for: another position, and a restart.
async fn follow(system: &mut System, topic: &str) -> Result<&'static str> {
    let began = Instant::now();
    while began.elapsed() < SEEN_WITHIN {
        if reported(system, topic).await {
            for service in system.services.0.clone() {
                if service.reads.iter().any(|read| read == topic) {
                    let reset =
                        format!("UPDATE saga.partition_claim SET next_offset = 0 WHERE topic = '{topic}'");
                    system.execute(&service.database, reset).await?;
                }
            }
            for host in 0..system.hosts() {
                system.term(host).await?;
                system.start(host, &[]).await?;
            }
            return Ok("a host reported it, its position was set, and the hosts were restarted");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok("the hosts went on by themselves")
}

async fn reported(system: &System, topic: &str) -> bool {
    for host in 0..system.hosts() {
        let Ok(admin) = system.target(host).admin() else { continue };
        let reply = Request::get("/readyz").send(admin).await;
        if reply.is_ok_and(|reply| reply.status != 200 && reply.text().contains(topic)) {
            return true;
        }
    }
    false
}
