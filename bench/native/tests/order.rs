//! The order system with native plugins, on a real Postgres and a real Kafka; and what crosses between host
//! and plugins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{path::Path, time::Duration};

use saga_testkit::{
    caller::Request,
    costs::Costs,
    host_process::{HostProcess, StartOptions},
    report::Report,
    verify::{self, Scope},
};

const QUIET_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn orders_end_as_under_components() {
    let folder = tempfile::tempdir().unwrap();
    let options = StartOptions {
        host_binary: Some(env!("CARGO_BIN_EXE_saga-host-native").into()),
        plugins: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/dist"),
        folder: folder.path().to_owned(),
        ready_s: 120,
        environment: vec![("SAGA_HOST_NATIVE_CROSSINGS".to_owned(), "1".to_owned())],
    };
    let (host, target) = HostProcess::dev(&options).await.unwrap();
    let address = target.http().unwrap();
    let made = Request::post("/stocks", r#"{"qty":3}"#).send(address).await.unwrap().expect(201).unwrap();
    let product = made.member("productId").unwrap();
    for (qty, expected) in [(2, "CONFIRMED"), (2, "CANCELLED"), (1, "CONFIRMED")] {
        let order = format!(r#"{{"productId":{product},"orderQty":{qty}}}"#);
        let placed = Request::post("/orders", order).header("Prefer", "wait=30").send(address).await.unwrap();
        assert_eq!(placed.expect(201).unwrap().member("orderStatus").unwrap(), expected);
    }
    let mut report = Report::silent();
    verify::check(&target, &Scope::all(QUIET_WITHIN), &mut report).await.unwrap();
    report.finish().unwrap();
    host.stop().await.unwrap();
    let log = std::fs::read_to_string(folder.path().join("dev.log")).unwrap();
    assert_eq!(log.matches("plugin runs as native code").count(), 5, "{log}");
    let costs =
        ["order-orchestrator", "inventory-command"].map(|plugin| bytes_per_call(&log, plugin)).concat();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/tests/costs.toml");
    let judged = Costs::read(&file, "guest-bytes-per-call").unwrap().judge(&costs);
    eprintln!("{}", judged.unwrap_or_else(|error| panic!("{error:#}")));
}

/// What crossed between the host and a plugin, from the line that tells it. Each call had one delivery or
/// request.
fn bytes_per_call(log: &str, plugin: &str) -> [(String, f64); 2] {
    let line = log.lines().find(|line| line.starts_with(&format!("crossings plugin={plugin} "))).unwrap();
    let count = |name: &str| {
        let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap().parse::<f64>().unwrap()
    };
    let calls = count("calls");
    [("in", "bytes_in"), ("out", "bytes_out")]
        .map(|(way, name)| (format!("{plugin}_{way}"), count(name) / calls))
}
