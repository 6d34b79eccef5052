//! The host API, on its own listener.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::system::{PARKED, System, new_id};
use crate::caller::{Reply, Request};
use crate::report::Report;
use crate::service::SERVICES;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("host API");
    report.run("alive and ready", alive(system)).await;
    report.run("metrics for Prometheus", metrics(system)).await;
    report.run("OpenAPI names the routes", openapi(system)).await;
    report.run("five plugins are active", plugins(system)).await;
    report.run("the timeline of a saga has cause, digest and sent records", timeline(system)).await;
    report.run("sagas are found by type, key and state", search(system)).await;
    let unknown = format!("{PARKED}/999999999");
    let (redrive, discard) = (format!("{unknown}/redrive"), format!("{unknown}/discard"));
    for (method, path, status) in [
        ("GET", "/v1/plugins/nobody", 404),
        ("GET", "/v1/sagas/order/nobody", 404),
        ("GET", unknown.as_str(), 404),
        ("POST", redrive.as_str(), 404),
        ("POST", discard.as_str(), 404),
        ("POST", "/v1/plugins/nobody/rollback", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/v1/plugins", 405),
        ("GET", "/v1/sagas?limit=0", 400),
        ("GET", "/v1/sagas?limit=abc", 400),
        ("GET", "/v1/sagas?cursor=%21", 400),
        ("GET", "/v1/sagas?state=nonsense&limit=-1", 400),
    ] {
        report.run(format!("{method} {path} is {status}"), refused(system, method, path, status)).await;
    }
    report.run("a file that is not a component is refused with the reason", no_component(system)).await;
    report.run("the service routes are not here", apart(system)).await;
}

/// The entries of a list: a bare array, or the only array in an object.
pub(super) fn items(reply: &Reply) -> Result<Vec<Value>> {
    match reply.json()? {
        Value::Array(items) => Ok(items),
        Value::Object(members) => {
            let list = members
                .into_iter()
                .find_map(|(_, member)| if let Value::Array(items) = member { Some(items) } else { None });
            list.with_context(|| format!("{}: no list: {}", reply.request_line, reply.short()))
        }
        _ => anyhow::bail!("{}: no list: {}", reply.request_line, reply.short()),
    }
}

async fn get(system: &System, path: &str) -> Result<Reply> {
    system.admin(Request::get(path)).await?.expect(200)
}

async fn alive(system: &System) -> Result<()> {
    get(system, "/healthz").await?;
    get(system, "/readyz").await?;
    Ok(())
}

async fn metrics(system: &System) -> Result<()> {
    let reply = get(system, "/metrics").await?;
    let kind = reply.header("content-type").unwrap_or_default();
    ensure!(
        kind.starts_with("application/openmetrics-text") || kind.starts_with("text/plain"),
        "content type {kind:?}"
    );
    ensure!(reply.text().contains("# TYPE "), "{}", reply.short());
    Ok(())
}

async fn openapi(system: &System) -> Result<()> {
    let json = get(system, "/openapi.json").await?.json()?;
    ensure!(
        json["openapi"].as_str().is_some_and(|version| version.starts_with('3')),
        "openapi {}",
        json["openapi"]
    );
    let paths = json["paths"].as_object().context("no paths")?;
    let parked_by_id = format!("{PARKED}/{{id}}");
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/plugins",
        "/v1/plugins/{name}",
        "/v1/sagas",
        "/v1/sagas/{type}/{key}",
        PARKED,
        parked_by_id.as_str(),
    ] {
        ensure!(paths.contains_key(path), "{path} is missing");
    }
    Ok(())
}

async fn plugins(system: &System) -> Result<()> {
    let list = items(&get(system, "/v1/plugins").await?)?;
    for service in SERVICES {
        let active = list
            .iter()
            .any(|entry| entry["name"] == service.plugin && entry.to_string().contains(r#""active""#));
        ensure!(active, "{} is not active: {list:?}", service.plugin);
        let one = get(system, &format!("/v1/plugins/{}", service.plugin)).await?;
        ensure!(one.text().contains("digest"), "no digest: {}", one.short());
    }
    Ok(())
}

async fn timeline(system: &System) -> Result<()> {
    let product = system.product(5).await?;
    let (id, _) = system.ended_order(product, 1).await?;
    let reply = get(system, &format!("/v1/sagas/order/{id}")).await?;
    let text = reply.text();
    for part in [
        id.as_str(),
        "SAGA_STARTED",
        "SAGA_COMPLETE",
        "digest",
        "order-created-topic",
        "inventory-deducted-topic",
        "order-notifications-topic",
        "offset",
        "completed",
    ] {
        ensure!(text.contains(part), "{part} is missing: {text}");
    }
    let upper = system.admin(Request::get(format!("/v1/sagas/order/{}", id.to_uppercase()))).await?;
    ensure!(upper.status == 200, "in upper case: {}", upper.status);
    Ok(())
}

async fn search(system: &System) -> Result<()> {
    let product = system.product(5).await?;
    let (id, _) = system.ended_order(product, 1).await?;
    let found = get(system, &format!("/v1/sagas?type=order&key={id}")).await?;
    ensure!(items(&found)?.len() == 1 && found.text().contains(&id), "{}", found.short());
    let none = get(system, &format!("/v1/sagas?type=order&key={}", new_id())).await?;
    ensure!(items(&none)?.is_empty(), "{}", none.short());
    let some = get(system, "/v1/sagas?type=order&limit=1").await?;
    ensure!(items(&some)?.len() == 1, "{}", some.short());
    Ok(())
}

async fn refused(system: &System, method: &str, path: &str, status: u16) -> Result<()> {
    let reply = system.admin(Request::new(method, path)).await?;
    let reply = reply.expect_problem(&[status], "")?;
    ensure!(status != 405 || reply.header("allow").is_some(), "no Allow");
    Ok(())
}

async fn no_component(system: &System) -> Result<()> {
    let put = Request::new("PUT", "/v1/plugins/inventory-command").header("Content-Type", "application/wasm");
    system.admin(put.clone()).await?.expect_problem(&[400, 422], "")?;
    let active = get(system, "/v1/plugins/inventory-command").await?;
    ensure!(active.text().contains("active"), "{}", active.short());
    Ok(())
}

async fn apart(system: &System) -> Result<()> {
    system.admin(Request::get("/orders")).await?.expect_problem(&[404], "")?;
    Ok(())
}
