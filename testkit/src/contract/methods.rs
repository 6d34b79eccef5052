//! Methods and routes that do not exist (RFC 9110).

use anyhow::{Result, ensure};

use super::system::{System, new_id};
use crate::caller::{Reply, Request};
use crate::report::Report;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("methods");
    let order = new_id();
    let routes: [(String, &[&str], &str); 6] = [
        ("/orders".to_owned(), &["GET", "HEAD", "POST"], "DELETE"),
        (format!("/orders/{order}"), &["GET", "HEAD"], "POST"),
        (format!("/orders/{order}/events"), &["GET", "HEAD"], "PUT"),
        ("/stocks".to_owned(), &["GET", "HEAD", "POST"], "PATCH"),
        ("/stocks/1".to_owned(), &["GET", "HEAD", "PATCH"], "PUT"),
        (format!("/notifications?orderId={order}"), &["GET", "HEAD"], "DELETE"),
    ];
    for (path, allowed, wrong) in &routes {
        report
            .run(
                format!("{wrong} {path} is 405 with Allow: {}", allowed.join(", ")),
                not_allowed(system, wrong, path, allowed),
            )
            .await;
        report.run(format!("OPTIONS {path} answers Allow"), options(system, path, allowed)).await;
    }
    report.run("HEAD is GET without its body", head(system)).await;
    for path in ["/", "/nothing", "/orders/a/b/c", "/v1/plugins", "/metrics", "//orders", "/ORDERS"] {
        report.run(format!("GET {path} is 404"), unknown(system, path)).await;
    }
    report.run("an unknown method is refused", odd_method(system)).await;
}

fn expect_allow(reply: &Reply, allowed: &[&str]) -> Result<()> {
    let allow = reply.header("allow").unwrap_or_default();
    let mut listed: Vec<&str> =
        allow.split(',').map(str::trim).filter(|method| *method != "OPTIONS").collect();
    listed.sort_unstable();
    ensure!(listed == allowed, "Allow {allow:?} instead of {allowed:?}");
    Ok(())
}

async fn not_allowed(system: &System, method: &str, path: &str, allowed: &[&str]) -> Result<()> {
    let reply = system.send(Request::new(method, path)).await?.expect_problem(&[405], "")?;
    expect_allow(&reply, allowed)
}

async fn options(system: &System, path: &str, allowed: &[&str]) -> Result<()> {
    let reply = system.send(Request::new("OPTIONS", path)).await?;
    ensure!([200, 204].contains(&reply.status), "{}", reply.status);
    expect_allow(&reply, allowed)
}

async fn head(system: &System) -> Result<()> {
    let product = system.product(50).await?;
    system.await_quantity(product, 50).await?;
    let (order, _) = system.ended_order(product, 1).await?;
    system.await_status(&order, "CONFIRMED").await?;
    let paths = [
        format!("/stocks/{product}"),
        format!("/orders/{order}"),
        format!("/orders/{order}/events"),
        format!("/orders/{}", new_id()),
        "/orders?limit=1".to_owned(),
        "/orders?limit=0".to_owned(),
    ];
    for path in paths {
        let (get, head) =
            (system.send(Request::get(&path)).await?, system.send(Request::new("HEAD", &path)).await?);
        ensure!(get.status == head.status, "{path}: {} and {}", get.status, head.status);
        ensure!(head.body.is_empty(), "{path}: HEAD with a body");
        for name in ["content-type", "content-length", "link"] {
            ensure!(
                get.header(name) == head.header(name),
                "{path}: {name} {:?} and {:?}",
                get.header(name),
                head.header(name)
            );
        }
    }
    Ok(())
}

async fn unknown(system: &System, path: &str) -> Result<()> {
    system.send(Request::get(path)).await?.expect_problem(&[404], "")?;
    Ok(())
}

async fn odd_method(system: &System) -> Result<()> {
    let reply = system.send(Request::new("BREW", "/orders")).await?;
    ensure!([405, 501].contains(&reply.status), "{}", reply.status);
    Ok(())
}
