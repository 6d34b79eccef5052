//! A saga whose reply is late is shown as overdue, never compensated, and completed by the late reply.

use anyhow::ensure;
use saga_testkit::caller::Request;

use crate::support::{
    eventually,
    flow::product,
    folder,
    host::{self, get, metric},
    stack::Own,
};

#[tokio::test]
async fn an_overdue_saga_is_shown_and_completed_by_a_late_reply() {
    let stack = Own::start().await;
    let target = &stack.target;
    let host = host::run(target, &folder::plugins(&["inventory-command"])).await;
    let product = product(target, 1).await;
    host.stop().await;

    let plugins = folder::plugins(&["order-orchestrator"]);
    let policy = plugins.join("order-orchestrator.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let hurried = text.replace(r#"saga_deadline_s = "30""#, r#"saga_deadline_s = "1""#);
    assert_ne!(text, hurried);
    std::fs::write(policy, hurried).unwrap();
    let _host = host::run(target, &plugins).await;
    let body = format!(r#"{{"productId":{product},"orderQty":1}}"#);
    let reply =
        Request::post("/orders", body).send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    let order = reply.member("orderId").unwrap().as_str().unwrap().to_owned();
    let saga = format!("/v1/sagas/order/{order}");
    eventually(async || {
        let overdue = get(target, "/v1/sagas?state=overdue").await?;
        ensure!(overdue["sagas"].as_array().is_some_and(|sagas| sagas.len() == 1), "{overdue}");
        ensure!(overdue["sagas"][0]["key"] == *order, "{overdue}");
        Ok(())
    })
    .await;
    assert_eq!(metric(target, "sagas_overdue", "order-orchestrator").await.unwrap(), 1.0);
    let timeline = get(target, &saga).await.unwrap();
    assert!(timeline["timeline"].to_string().contains("SAGA_OVERDUE"), "{timeline}");
    assert!(timeline["nextAt"].is_string(), "{timeline}");

    folder::add_plugin(&plugins, "inventory-command");
    eventually(async || {
        let ended = get(target, &saga).await?;
        ensure!(ended["ending"] == "completed", "{ended}");
        Ok(())
    })
    .await;
    assert_eq!(metric(target, "sagas_overdue", "order-orchestrator").await.unwrap(), 0.0);
    let events = Request::get(format!("/orders/{order}/events")).send(target.http().unwrap()).await.unwrap();
    assert!(events.expect(200).unwrap().text().contains("ORDER_CONFIRMED"));
}
