//! What a person reads. Whatever differs from run to run is replaced.

use saga_testkit::caller::Request;

use crate::support::{
    flow::product,
    host::{self, cli},
};

/// A cell of a table.
fn plain(cell: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == ',');
    let clock = |text: &str| text.len() == 12 && text.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
    match cell {
        _ if cell.ends_with('…') => "digest",
        _ if number(cell) => "count",
        _ if clock(cell) => "time",
        _ if cell.strip_suffix(" s").is_some_and(number) => "age",
        _ => cell.split_once("-topic/").map_or(cell, |(topic, _)| topic),
    }
}

/// The cells of each line, without the spaces that align them.
fn table(text: &str) -> Vec<String> {
    let cells =
        text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(plain));
    cells.map(|cells| cells.collect::<Vec<_>>().join(" | ")).collect()
}

#[tokio::test]
async fn plugins_are_listed() {
    let (_turn, target) = host::shared().await;
    insta::assert_snapshot!(table(&cli(&target, &["plugins"])).join("\n"), @r"
    NAME | VERSION | DIGEST | STATE | SINCE | UNITS | DELIVERIES | STATEMENTS | ERRORS | IN FLIGHT
    inventory-command | 0.1.0 | digest | active | age | count | count | count | count | count
    inventory-query | 0.1.0 | digest | active | age | count | count | count | count | count
    notification | 0.1.0 | digest | active | age | count | count | count | count | count
    order-orchestrator | 0.1.0 | digest | active | age | count | count | count | count | count
    order-query | 0.1.0 | digest | active | age | count | count | count | count | count
    ");
}

#[tokio::test]
async fn a_saga_is_shown_from_cause_to_effect() {
    let (_turn, target) = host::shared().await;
    let product = product(&target, 3).await;
    let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":2}}"#));
    let reply =
        order.header("Prefer", "wait=30").send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    let id = reply.member("orderId").unwrap().as_str().unwrap().to_owned();
    let shown = cli(&target, &["saga", &id]);
    let (head, timeline) = shown.split_once("TIME").unwrap();
    assert!(head.starts_with(&format!("order {id}  completed, state SAGA_COMPLETE, started ")), "{head}");
    assert!(
        head.contains("\norder-orchestrator ") && head.contains(&format!(r#""productId":{product}"#)),
        "{head}"
    );
    let lines = table(timeline);
    assert_eq!(lines[0], "EVENT | STATE | BY | CAUSE | SENT");
    assert!(lines[1].starts_with("time | SAGA_STARTED | SAGA_STARTED | digest | request "), "{shown}");
    assert!(lines[1].ends_with(" | order-created-topic"), "{shown}");
    assert_eq!(
        lines[2..],
        ["time | ORDER_CONFIRMED | SAGA_COMPLETE | digest | inventory-deducted | order-notifications-topic"]
    );
}
