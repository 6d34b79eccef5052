//! The promise of `wit/`: a component that was built for a released version of the interfaces runs on every
//! later host. Each file of `host/tests/golden` is the component of `host/tests/guest` (`./dev build-guest`)
//! at that version of `wit/`. Once the version is released, its file is never built again.

use std::{fs, path::Path};

use anyhow::ensure;
use saga_testkit::{
    caller::Request,
    topic::writer::{Draft, Writer},
};

use crate::support::{
    eventually, flow, folder,
    guest::{DONE, PLUGIN, POLICY, TOPIC},
    host,
    stack::Own,
};

#[tokio::test]
async fn a_component_for_0_1_0_still_runs() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1.0.wasm");
    fs::write(plugins.join(format!("{PLUGIN}.toml")), POLICY).unwrap();
    fs::copy(golden, plugins.join(format!("{PLUGIN}.wasm"))).unwrap();
    let target = &stack.target;
    let _host = host::run(target, &plugins).await;
    for how in ["behave", "start-7"] {
        let request = Request::post(format!("/misbehave/{how}"), String::new());
        request.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    }
    let failing = Request::post("/misbehave/bad-sql", String::new());
    failing.send(target.http().unwrap()).await.unwrap().expect(500).unwrap();
    let draft = Draft { key: Some("7".to_owned()), ..Draft::text("behave") };
    Writer::new(&target.kafka).unwrap().write(TOPIC, &draft).await.unwrap();
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done == 3, "{done} messages instead of 3");
        Ok(())
    })
    .await;
    let saga = host::get(target, "/v1/sagas/misbehaviour/7").await.unwrap();
    assert_eq!(saga["state"], "started", "{saga}");
}
