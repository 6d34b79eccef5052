//! `GET /orders` and `GET /stocks`: order, filter, and pages by `Link` (RFC 8288).

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::system::{System, eventually};
use crate::caller::{Reply, Request};
use crate::report::Report;

const PAGES_MAX: usize = 2000;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("lists and pages");
    report.run("orders are listed newest first, as they are one by one", newest_first(system)).await;
    report.run("the pages of /orders together are the list", pages(system, "/orders", "orderId")).await;
    report.run("the pages of /stocks together are the list", pages(system, "/stocks", "productId")).await;
    report.run("a filter stays on in the next page", filtered(system)).await;
    report.run("100 is the default limit and 1000 the highest", limits(system)).await;
    report.run("orders placed between two pages move nothing", moving(system)).await;
}

/// The address of the next page.
fn next(reply: &Reply) -> Result<Option<String>> {
    let Some(link) = reply.header("link") else {
        return Ok(None);
    };
    let (target, parameters) = link
        .strip_prefix('<')
        .and_then(|link| link.split_once('>'))
        .with_context(|| format!("Link {link:?}"))?;
    ensure!(parameters.replace(' ', "") == r#";rel="next""#, "Link {link:?}");
    let path = target.find("://").and_then(|scheme| Some(scheme + 3 + target[scheme + 3..].find('/')?));
    Ok(Some(target[path.unwrap_or_default()..].to_owned()))
}

async fn walk(system: &System, first: String, limit: usize) -> Result<Vec<Value>> {
    let (mut items, mut path) = (Vec::new(), Some(first));
    for _ in 0..PAGES_MAX {
        let Some(at) = path else { return Ok(items) };
        let reply = system.get(at).await?;
        let page = reply.array()?;
        path = next(&reply)?;
        ensure!(page.len() <= limit, "{} in a page of {limit}", page.len());
        ensure!(path.is_none() || !page.is_empty(), "an empty page with a next one");
        items.extend(page);
    }
    anyhow::bail!("more than {PAGES_MAX} pages")
}

async fn newest_first(system: &System) -> Result<()> {
    let product = system.product(100).await?;
    let mut placed = Vec::new();
    for _ in 0..3 {
        placed.insert(0, system.ended_order(product, 1).await?.0);
    }
    system.await_status(&placed[0], "CONFIRMED").await?;
    let reply = system.get("/orders?limit=3").await?;
    let listed: Vec<Value> = reply.array()?.iter().map(|order| order["orderId"].clone()).collect();
    ensure!(listed == placed, "{listed:?} instead of {placed:?}");
    for id in placed {
        let one = system.get(format!("/orders/{id}")).await?.text();
        ensure!(reply.text().contains(&one), "{one} is not in {}", reply.text());
    }
    Ok(())
}

async fn pages(system: &System, path: &str, key: &str) -> Result<()> {
    for _ in 0..5 {
        let product = system.product(1).await?;
        system.ended_order(product, 1).await?;
    }
    system.quiet().await?;
    let whole = walk(system, format!("{path}?limit=1000"), 1000).await?;
    let limit = (whole.len() / 50).max(2);
    let parts = walk(system, format!("{path}?limit={limit}"), limit).await?;
    ensure!(whole == parts, "{} by 1000, {} by {limit}", whole.len(), parts.len());
    let keys: HashSet<String> = whole.iter().map(|item| item[key].to_string()).collect();
    ensure!(keys.len() == whole.len(), "{} of {} are different", keys.len(), whole.len());
    Ok(())
}

async fn filtered(system: &System) -> Result<()> {
    let (empty, product) = (system.product(1).await?, system.product(10).await?);
    for _ in 0..3 {
        system.ended_order(empty, 2).await?;
        system.ended_order(product, 1).await?;
    }
    system.quiet().await?;
    let all = walk(system, "/orders?limit=1000".to_owned(), 1000).await?;
    for status in ["CANCELLED", "CONFIRMED", "PENDING_CONFIRMATION"] {
        let expected: Vec<&Value> = all.iter().filter(|order| order["orderStatus"] == status).collect();
        let limit = (expected.len() / 50).max(2);
        let listed = walk(system, format!("/orders?limit={limit}&status={status}"), limit).await?;
        ensure!(
            listed.iter().collect::<Vec<_>>() == expected,
            "{status}: {} instead of {}",
            listed.len(),
            expected.len()
        );
    }
    Ok(())
}

async fn limits(system: &System) -> Result<()> {
    while walk(system, "/stocks?limit=1000".to_owned(), 1000).await?.len() <= 100 {
        for _ in 0..50 {
            system.product(1).await?;
        }
        system.quiet().await?;
    }
    let default = system.get("/stocks").await?;
    ensure!(default.array()?.len() == 100, "{} by default", default.array()?.len());
    ensure!(next(&default)?.is_some(), "no Link");
    let above = system.send(Request::get("/stocks?limit=1001")).await?;
    let kept = above.status == 200 && above.array()?.len() <= 1000;
    ensure!(kept || above.status == 400, "limit=1001: {}", above.status);
    Ok(())
}

async fn moving(system: &System) -> Result<()> {
    let product = system.product(100).await?;
    for _ in 0..4 {
        system.ended_order(product, 1).await?;
    }
    system.quiet().await?;
    let before: Vec<Value> = system.get("/orders?limit=4").await?.array()?;
    let first = system.get("/orders?limit=2").await?;
    let (new, _) = system.ended_order(product, 1).await?;
    system.await_status(&new, "CONFIRMED").await?;
    let second = eventually(async || system.get(next(&first)?.context("no Link")?).await).await?;
    let both: Vec<Value> = first.array()?.into_iter().chain(second.array()?).collect();
    ensure!(both == before, "{both:?} instead of {before:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::next;
    use crate::caller::Reply;

    #[test]
    fn the_next_page_is_in_the_link() {
        let reply = |link: &str| Reply {
            request_line: String::new(),
            status: 200,
            headers: vec![("link".to_owned(), link.to_owned())],
            body: Vec::new(),
        };
        assert_eq!(
            next(&reply(r#"</orders?cursor=a>; rel="next""#)).unwrap().as_deref(),
            Some("/orders?cursor=a")
        );
        assert_eq!(
            next(&reply(r#"<http://h:1/orders?cursor=a>;rel="next""#)).unwrap().as_deref(),
            Some("/orders?cursor=a")
        );
        assert!(next(&reply("/orders")).is_err());
    }
}
