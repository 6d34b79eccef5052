//! The checks of a quiet system, all from outside: a consumer of its own reads the topics, SQL the databases,
//! HTTP the routes, and statements compare them with each other and with what the clients know.

mod archive;
mod scratch;
mod sequence;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::Value;

pub(super) use self::archive::Archive;
use self::scratch::Scratch;
use self::sequence::Sequence;
use super::calls::{Calls, Placed};
use super::description::{self, Table};
use super::setup::Made;
use super::system::System;
use saga_testkit::caller::Request;
use saga_testkit::report::Report;

/// About this many of the accepted requests are sent once more.
const REPEATED: usize = 50;
const PARKED: &str = "SELECT count(*) FROM saga.parked";

/// The outcome in numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) accepted: usize,
    /// What the system's file counts; each must be 0.
    pub(super) zero: Vec<(String, i64)>,
    /// Records that come after a later one of their lane.
    pub(super) reordered: u64,
    /// Records that were sent again, with the id and the bytes of the first one.
    pub(super) repeated: u64,
}

/// Waits until the system is quiet, and checks everything there.
pub(super) async fn all(
    system: &System,
    calls: &Calls,
    made: &[Made],
    mut archive: Archive,
    quiet_within: Duration,
    report: &mut Report,
) -> Result<Counts> {
    report.area("requests");
    report.note(format!("all {} requests were accepted in the end", calls.planned()), calls.complete());
    let placed = calls.placed();
    report.area("invariants of the quiet system");
    let motion = system.quiet(quiet_within).await?;
    let left = (!motion.is_empty()).then(|| anyhow!(motion.join("; ")));
    report.note("outboxes are empty, consumer lag is zero, no saga is in flight", left.map_or(Ok(()), Err));
    report.run("nothing is parked", nothing_parked(system)).await;
    let kafka = &system.linked.direct.kafka;
    archive.read(kafka, &system.services.topics()).await?;
    let sequence = Sequence::of(archive.records.iter());
    let mut scratch = Scratch::create(&system.linked.direct.postgres).await?;
    fill(&mut scratch, system, &archive, &placed, made).await?;
    for (name, held) in judge(&mut scratch, &system.description).await {
        report.note(name, held);
    }
    report.area("what the clients know");
    let again = repeat(system, calls, &placed);
    report.run("an accepted request that is sent again is answered the same", again).await;
    report.area("requests and records");
    let counts = Counts {
        accepted: placed.len(),
        zero: count(&mut scratch, &system.description).await?,
        reordered: sequence.reordered,
        repeated: sequence.repeated,
    };
    counts.check(&sequence, report);
    Ok(counts)
}

/// The invariants, with their figures.
async fn judge(scratch: &mut Scratch, description: &description::System) -> Vec<(String, Result<()>)> {
    let mut judged = Vec::new();
    for invariant in &description.invariants {
        let held = scratch.hold(invariant).await;
        judged.push((scratch.name(invariant).await, held));
    }
    judged
}

async fn count(scratch: &mut Scratch, description: &description::System) -> Result<Vec<(String, i64)>> {
    let mut counted = Vec::new();
    for count in &description.counts {
        counted.push((count.of.clone(), scratch.count(&count.select).await?));
    }
    Ok(counted)
}

async fn nothing_parked(system: &System) -> Result<()> {
    let mut parked = Vec::new();
    for database in system.services.databases() {
        let count = system.databases.count(database, PARKED).await?;
        if count > 0 {
            parked.push(format!("{count} in {database}"));
        }
    }
    ensure!(parked.is_empty(), "{}; see `saga-host parked`", parked.join(", "));
    Ok(())
}

async fn fill(
    scratch: &mut Scratch,
    system: &System,
    archive: &Archive,
    placed: &[Placed],
    made: &[Made],
) -> Result<()> {
    let placed: Vec<_> = placed
        .iter()
        .map(|placed| (placed.id.clone(), Value::Object(placed.asked.clone()), placed.answer.clone()))
        .collect();
    let made: Vec<_> =
        made.iter().map(|made| (Value::Object(made.asked.clone()), made.answer.clone())).collect();
    scratch.fill(&archive.records, &placed, &made).await?;
    for table in &system.description.tables {
        let read = read(system, table).await.with_context(|| format!("reading the table {}", table.name))?;
        for rows in read {
            scratch.table(table, &rows).await?;
        }
    }
    for view in &system.description.views {
        scratch.view(view).await?;
    }
    Ok(())
}

/// The rows of a table, a list in JSON for each place that it is read from.
async fn read(system: &System, table: &Table) -> Result<Vec<String>> {
    if let Some(path) = &table.get {
        let answer = Request::get(path.as_str()).send(system.target(0).http()?).await?.expect(200)?.json()?;
        let rows = answer.pointer(&table.rows).filter(|rows| rows.is_array());
        return Ok(vec![
            rows.with_context(|| format!("{path} has no list at {:?}", table.rows))?.to_string(),
        ]);
    }
    let select = table.select.as_deref().unwrap_or_default();
    let names = match table.database.as_deref().unwrap_or_default() {
        "*" => system.services.databases(),
        name => vec![name],
    };
    let mut all = Vec::new();
    for database in names {
        let statement = format!("SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]')::text FROM ({select}) r");
        all.push(system.text(database, statement).await?);
    }
    Ok(all)
}

/// Sends some of the requests once more. An answer has no other member than the first one had, and the same
/// values, without the one that says that the saga has ended.
async fn repeat(system: &System, calls: &Calls, placed: &[Placed]) -> Result<()> {
    let load = &system.description.load;
    let ended = load.ended.as_deref().and_then(|place| place.strip_prefix('/'));
    let step = (placed.len() / REPEATED).max(1);
    for placed in placed.iter().step_by(step) {
        let (_, request) = calls.request(placed.number, false)?;
        let reply = request.send(system.target(0).http()?).await?.expect(load.success)?;
        let [mut first, mut again] = [placed.answer.clone(), reply.json()?];
        for answer in [&mut first, &mut again] {
            if let (Some(object), Some(ended)) = (answer.as_object_mut(), ended) {
                object.remove(ended);
            }
        }
        ensure!(first == again, "{first} at first, {again} the second time");
    }
    Ok(())
}

impl Counts {
    fn check(&self, sequence: &Sequence, report: &mut Report) {
        for (of, count) in &self.zero {
            report.note(format!("{count} {of}"), zero(*count, ""));
        }
        report.note(
            format!("{} records reordered; {} sent again", self.reordered, self.repeated),
            zero(i64::try_from(self.reordered).unwrap_or(i64::MAX), &sequence.offenders.join("; ")),
        );
    }
}

fn zero(count: i64, detail: &str) -> Result<()> {
    ensure!(count == 0, "{count}, must be 0. {detail}");
    Ok(())
}

#[cfg(test)]
mod tests;
