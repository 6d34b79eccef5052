//! The requests before the load, and what later requests use of their answers.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::description;
use super::template::{Source, draw};
use crate::sample::Sample;

/// Separates this sequence from others with the same seed.
const SALT: u64 = 0x0073_6574_7570;

/// One request of the setup.
pub(super) struct Made {
    pub(super) asked: Map<String, Value>,
    pub(super) answer: Value,
}

/// Sends the requests of the setup to a host. `requests` is the number of those of the load.
pub(super) async fn run(
    system: &description::System,
    address: &str,
    seed: u64,
    requests: usize,
) -> Result<(Vec<Made>, Source)> {
    let (mut all, mut source) = (Vec::new(), Source::default());
    let Some(setup) = &system.setup else { return Ok((all, source)) };
    source.share = requests as f64 / setup.times.max(1) as f64;
    let mut sample = Sample::new(seed ^ SALT);
    for _ in 0..setup.times {
        let asked = draw(&setup.values, &source, &mut sample)?;
        let reply = setup.send.request(&asked).send(address).await?.expect(setup.success)?;
        let answer = reply.json()?;
        for (name, place) in &setup.keep {
            let value = answer.pointer(place).with_context(|| format!("no {place} in {answer}"))?;
            source.kept.entry(name.clone()).or_default().push(value.clone());
        }
        all.push(Made { asked, answer });
    }
    Ok((all, source))
}
