//! What a person reads, with what differs from run to run put in one form.

use saga_bench::caller::Request;

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

/// The cells of each line, without what aligns them.
fn table(text: &str) -> Vec<String> {
    let cells =
        text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(plain));
    cells.map(|cells| cells.collect::<Vec<_>>().join(" | ")).collect()
}

#[tokio::test]
async fn plugins_are_listed() {
    let (_turn, target) = host::shared().await;
    let mut expected = vec![
        "NAME | VERSION | DIGEST | STATE | SINCE | UNITS | DELIVERIES | STATEMENTS | ERRORS | IN FLIGHT"
            .to_owned(),
    ];
    expected.extend(host::PLUGINS.map(|name| {
        format!("{name} | 0.1.0 | digest | active | age | count | count | count | count | count")
    }));
    assert_eq!(table(&cli(&target, &["plugins"])), expected);
}

#[tokio::test]
async fn a_saga_is_told_from_cause_to_effect() {
    let (_turn, target) = host::shared().await;
    let product = product(&target, 3).await;
    let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":2}}"#));
    let reply =
        order.header("Prefer", "wait=30").send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    let id = reply.member("orderId").unwrap().as_str().unwrap().to_owned();
    let shown = cli(&target, &["saga", &id]);
    let (head, timeline) = shown.split_once("TIME").unwrap();
    assert!(head.starts_with(&format!("order {id}  completed, state SAGA_COMPLETE, began ")), "{head}");
    assert!(
        head.contains("\norder-orchestrator ") && head.contains(&format!(r#""productId":{product}"#)),
        "{head}"
    );
    let told = table(timeline);
    assert_eq!(told[0], "EVENT | STATE | BY | CAUSE | SENT");
    assert!(told[1].starts_with("time | SAGA_STARTED | SAGA_STARTED | digest | request "), "{shown}");
    assert!(told[1].ends_with(" | order-created-topic"), "{shown}");
    assert_eq!(
        told[2..],
        ["time | ORDER_CONFIRMED | SAGA_COMPLETE | digest | inventory-deducted | order-notifications-topic"]
    );
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let output = std::process::Command::new(host::BINARY).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        help,
        "\
Runs saga logic as WebAssembly components next to Kafka and Postgres

Usage: saga-host <COMMAND>

Commands:
  dev       Development: a private Postgres and Kafka, the host, and all plugins of a folder
  stack     Only the private Postgres and Kafka, without a host
  run       Production: serve with the Postgres and Kafka that it is told
  check     Would this component be accepted? Needs no running host
  deploy    Bring a component into a running host
  plugins   Plugins, their versions, and what these have done
  rollback  Activate the version before, or another that was active once
  sagas     Search sagas
  saga      The timeline of one saga
  held      What waits for a retry or for a person
  redrive   Have held deliveries tried again, each key in its order
  help      Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version

SAGA_HOST_LOG chooses what is logged, e.g. warn,saga_host::relay=debug [default: info,librdkafka=error,sqlx::postgres::notice=warn]
Exit codes: 0 done, 1 failed, 2 used wrongly
"
    );
}
