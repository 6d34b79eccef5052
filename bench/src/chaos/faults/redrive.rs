//! Deliveries of one key that fail for a while.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::sleep;
use crate::chaos::calls::Calls;
use crate::chaos::system::System;
use crate::chaos::template::fill;
use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::quiet::eventually;
use saga_testkit::report::Report;

/// By then a delivery of the key has come, unless the load has none of it any more.
const PARKED_WITHIN: Duration = Duration::from_secs(10);
const BROKEN_MS_MIN: usize = 2_000;
const BROKEN_MS_SPREAD: usize = 3_000;
const REDRIVEN_WITHIN: Duration = Duration::from_secs(30);

/// While the first parked delivery of a key waits, no later one of that key is tried.
pub(super) async fn redrive(
    system: &System,
    calls: &Calls,
    report: &mut Report,
    sample: &mut Sample,
) -> Result<String> {
    let redrive = system.description.redrive.as_ref().context("the system's file has no `redrive`")?;
    let (database, plugin) = (redrive.database.as_str(), redrive.plugin.as_str());
    let key = redrive.key.draw(calls.source(), sample)?;
    let values = Map::from_iter([("key".to_owned(), key.clone())]);
    system.execute(database, fill(&redrive.breaks, &values)).await?;
    let parked = parked_in_order(system, database, plugin, report, sample).await;
    system.execute(database, fill(&redrive.mend, &values)).await?;
    let parked = parked.with_context(|| format!("deliveries of {key} at {plugin}"))?;
    let path = format!("/v1/parked/redrive?plugin={plugin}");
    let count = format!("SELECT count(*) FROM saga.parked WHERE plugin = '{plugin}'");
    // Of each key only the first is redriven, and the others follow; a host may be busy with a rebalance.
    eventually(REDRIVEN_WITHIN, async || {
        if system.number(database, count.clone()).await? == 0 {
            return Ok(());
        }
        Request::new("POST", path.as_str()).send(system.target(0).admin()?).await?.expect(200)?;
        ensure!(
            system.number(database, count.clone()).await? == 0,
            "deliveries are parked after the redrive"
        );
        Ok(())
    })
    .await?;
    Ok(format!("{plugin}: deliveries of {key} failed, {parked} were parked and redriven", key = shown(&key)))
}

/// Waits until deliveries are parked and some more have come; returns how many: 0 when none came.
async fn parked_in_order(
    system: &System,
    database: &str,
    plugin: &str,
    report: &mut Report,
    sample: &mut Sample,
) -> Result<i64> {
    let parked = format!("SELECT count(*) FROM saga.parked WHERE plugin = '{plugin}' AND direction = 'in'");
    let came = eventually(PARKED_WITHIN, async || {
        ensure!(system.number(database, parked.clone()).await? > 0, "none is parked");
        Ok(())
    });
    if came.await.is_err() {
        return Ok(0);
    }
    sleep(BROKEN_MS_MIN + sample.below(BROKEN_MS_SPREAD)).await;
    let overtaken = format!(
        "SELECT count(*) FROM (
            SELECT FROM saga.parked WHERE plugin = '{plugin}' AND direction = 'in' AND key IS NOT NULL
             GROUP BY topic, partition, key HAVING count(*) FILTER (WHERE attempts > 0) > 1) k"
    );
    let overtaken = system.number(database, overtaken).await?;
    let none = (overtaken == 0).then_some(()).with_context(|| format!("not so for {overtaken} keys"));
    report.note("no delivery is tried while an earlier one of its key is parked", none);
    system.number(database, parked).await
}

fn shown(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}
