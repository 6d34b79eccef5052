//! What callers send: values are compared as values, and what cannot be read is refused by name.

use anyhow::ensure;
use saga_testkit::{caller::Request, target::Target};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{eventually, flow::product, host};

async fn refused(target: &Target, request: Request, names: &str) {
    let reply = request.send(target.http().unwrap()).await.unwrap();
    let reply = reply.expect_problem(&[400], names).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(!reply.text().contains("byte sequence"), "Postgres's error is shown: {}", reply.short());
}

#[tokio::test]
async fn an_idempotency_key_stands_for_the_value_of_a_body() {
    let (_turn, target) = host::shared().await;
    let (product, key) = (product(&target, 10).await, Uuid::new_v4().to_string());
    let post = async |body: String| {
        let order = Request::post("/orders", body).header("Idempotency-Key", &key);
        order.send(target.http().unwrap()).await.unwrap()
    };
    let first = post(format!(r#"{{"productId":{product},"orderQty":1}}"#)).await.expect(201).unwrap();
    for spelling in [
        format!(r#"{{"orderQty":1,"productId":{product}}}"#),
        format!("{{\n  \"orderQty\" : 1.0e0,\n  \"product\\u0049d\" : {product}.0\n}}\n"),
    ] {
        let again = post(spelling).await.expect(201).unwrap();
        assert_eq!(again.text(), first.text());
    }
    for other in [
        format!(r#"{{"productId":{product},"orderQty":2}}"#),
        format!(r#"{{"productId":{product},"orderQty":"1"}}"#),
        format!(r#"{{"productId":{product},"orderQty":1,"note":null}}"#),
    ] {
        post(other).await.expect_problem(&[409], "Idempotency-Key").unwrap();
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_by_name() {
    let (_turn, target) = host::shared().await;
    for number in ["1e400".to_owned(), "-1e999".to_owned(), "9".repeat(400)] {
        let order = format!(r#"{{"productId":1,"orderQty":{number}}}"#);
        refused(&target, Request::post("/orders", order), "orderQty: number out of range").await;
        refused(&target, Request::post("/stocks", format!(r#"{{"qty":{number}}}"#)), "qty").await;
    }
    for not_utf8 in [&b"{\"qty\":1,\"note\":\"\xff\"}"[..], b"{\"qty\":1,\"\xc3\":1}"] {
        refused(&target, Request::post("/stocks", not_utf8), "not JSON").await;
    }
}

#[tokio::test]
async fn a_parameter_that_is_given_twice_or_has_nul_is_refused_by_name() {
    let (_turn, target) = host::shared().await;
    for (path, names) in [
        ("/orders?limit=1&limit=2", "limit"),
        ("/orders?status=CONFIRMED&status=CONFIRMED", "status"),
        ("/stocks?cursor=a&cursor=b", "cursor"),
        ("/notifications?orderId=a&orderId=b", "orderId"),
        ("/notifications?orderId=%00", "orderId"),
        ("/orders?key=%00", "key"),
        ("/orders/%00", "path"),
    ] {
        refused(&target, Request::get(path), names).await;
    }
    refused(&target, Request::new("PATCH", "/stocks/1?qty=1&qty=2"), "qty").await;
    for (path, names) in [
        ("/v1/sagas?key=%00", "key"),
        ("/v1/sagas?type=a&type=b", "type"),
        ("/v1/sagas/order/%00", "key"),
        ("/v1/sagas/a%00b/c", "type"),
        ("/v1/parked?plugin=%00", "plugin"),
        ("/v1/plugins/%00", "name"),
    ] {
        let reply = Request::get(path).send(target.admin().unwrap()).await.unwrap();
        let reply = reply.expect_problem(&[400], names).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!reply.text().contains("byte sequence"), "Postgres's error is shown: {}", reply.short());
    }
}

/// The trace that the saga of a new order continues.
async fn trace(target: &Target, product: i64, traceparent: &str) -> String {
    let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":1}}"#));
    let order = order.header("traceparent", traceparent);
    let reply = order.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    let id = reply.member("orderId").unwrap().as_str().unwrap().to_owned();
    let saga = host::get(target, &format!("/v1/sagas/order/{id}")).await.unwrap();
    saga["timeline"][0]["trace"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_a_valid_traceparent_is_continued() {
    let (_turn, target) = host::shared().await;
    let product = product(&target, 10).await;
    let (id, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    assert_eq!(trace(&target, product, &format!("00-{id}-{span}-01")).await, id);
    let upper = id.to_uppercase();
    for invalid in [format!("00-{upper}-{span}-01"), format!("00-{id}-{span}-01-x")] {
        assert_ne!(trace(&target, product, &invalid).await, id, "{invalid}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_plugins_name_is_refused_before_anything_is_done() {
    let (_turn, target) = host::shared().await;
    let long = "a".repeat(57);
    for name in
        ["%2ftmp%2fx", "..%2fx", "a%0aERROR%20forged", "A", "a.b", "a_b", "%20", "%1b%5b2J", "%c3%a4", &long]
    {
        let path = format!("/v1/plugins/{name}");
        for request in [
            Request::put(&path, b"component".to_vec()),
            Request::get(&path),
            Request::post(format!("{path}/activate"), r#"{"digest":"00"}"#),
            Request::post(format!("{path}/rollback"), ""),
        ] {
            let reply = request.send(target.admin().unwrap()).await.unwrap();
            reply.expect_problem(&[400], "is not the name of a plugin").unwrap();
        }
    }
    let shown = host::get(&target, "/v1/plugins").await.unwrap();
    let names: Vec<&str> =
        shown["plugins"].as_array().unwrap().iter().filter_map(|plugin| plugin["name"].as_str()).collect();
    assert_eq!(names, host::PLUGINS);
    for arguments in [&["rollback", "../x"][..], &["deploy", "--name", "a\nb", "/dev/null"]] {
        let printed = host::cli_refuses(&target, arguments);
        assert!(printed.contains("is not the name of a plugin"), "{printed}");
    }
    eventually(async || {
        let ready: Value = host::get(&target, "/readyz").await?;
        ensure!(ready["status"] == "ready", "{ready}");
        Ok(())
    })
    .await;
}
