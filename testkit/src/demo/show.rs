//! The output of the demo: steps, checked results and timelines.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output;

const DIGEST_SHOWN: usize = 6;

pub(super) fn step(what: &str) {
    output::line(&format!("\n▸ {what}"));
}

/// A result that was checked.
pub(super) fn done(what: &str) {
    output::line(&format!("  ✓ {what}"));
}

pub(super) fn value(name: &str, value: &str) {
    output::line(&format!("    {name:<10}{value}"));
}

/// The first digits of a digest.
pub(super) fn digest(digest: &str) -> String {
    format!("{}…", digest.get(..DIGEST_SHOWN).unwrap_or(digest))
}

/// The transitions of a saga, one per line.
pub(super) fn timeline(saga: &Value) {
    for line in lines(saga) {
        output::line(&format!("    {line}"));
    }
}

fn lines(saga: &Value) -> Vec<String> {
    let steps = saga["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = steps.first().and_then(at);
    let cells: Vec<[String; 4]> = steps.iter().map(|step| cells(step, first)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (when, event, state) = (width(0), width(1), width(2));
    cells
        .iter()
        .map(|[a, b, c, d]| format!("{a:<when$}  {b:<event$}  {c:<state$}  {d}").trim_end().to_owned())
        .collect()
}

fn cells(step: &Value, first: Option<OffsetDateTime>) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let clock = step["at"].as_str().and_then(|at| at.get(11..23)).unwrap_or_default();
    let when = match (at(step), first) {
        (Some(at), Some(first)) if at > first => format!("{clock} +{} ms", (at - first).whole_milliseconds()),
        _ => clock.to_owned(),
    };
    let cause = &step["cause"];
    let by = match cause["topic"].as_str() {
        Some(topic) => format!("{topic}/{}/{}", cause["partition"], cause["offset"]),
        None => text(&cause["kind"]),
    };
    let sent: Vec<String> =
        step["sent"].as_array().into_iter().flatten().map(|sent| text(&sent["topic"])).collect();
    let effect = if sent.is_empty() { by } else { format!("{by} → {}", sent.join(", ")) };
    [when, text(&step["event"]), text(&step["state"]), effect]
}

fn at(step: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(step["at"].as_str()?, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;

    #[test]
    fn a_timeline_shows_how_long_each_step_took() {
        let saga = json!({"timeline": [
            {"at": "2026-11-22T19:28:00.123456Z", "event": "SAGA_STARTED", "state": "SAGA_STARTED",
             "cause": {"kind": "request", "id": "r"}, "sent": [{"topic": "order-created-topic", "id": "x"}]},
            {"at": "2026-11-22T19:28:00.135000Z", "event": "DEDUCTED", "state": "SAGA_COMPLETE",
             "cause": {"kind": "kafka", "id": "y",
                       "topic": "inventory-deducted-topic", "partition": 3, "offset": 12}},
        ]});
        assert_eq!(
            lines(&saga),
            [
                "19:28:00.123         SAGA_STARTED  SAGA_STARTED   request → order-created-topic",
                "19:28:00.135 +11 ms  DEDUCTED      SAGA_COMPLETE  inventory-deducted-topic/3/12",
            ]
        );
    }
}
