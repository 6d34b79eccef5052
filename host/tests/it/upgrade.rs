//! Two builds side by side. The newer one is the same binary, told to play the next build: it has a newer
//! format of stored bodies, and calls a `saga.flush` with one parameter more. Whatever is stored while the
//! older one runs, the older one can read.

use std::path::Path;

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    service::SERVICES,
    target::Target,
    topic::{
        groups,
        writer::{Draft, Writer},
    },
};
use serde_json::Value;

use crate::support::{
    SOON,
    database::Database,
    eventually,
    flow::{self, CANCELLED, CONFIRMED, ORDERS, Products},
    folder,
    host::{self, get},
    stack::Own,
};

const ORDER_CREATED: &str = "order-created-topic";
/// What the migration of the next build adds: the same function with one parameter more.
const NEXT_FLUSH: &str = "
    DO $migration$
    DECLARE
        v_parameters text := (SELECT pg_get_function_arguments('saga.flush'::regproc));
        v_places     text := (SELECT string_agg('$' || place, ', ') FROM generate_series(1, 14) place);
    BEGIN
        EXECUTE format(
            'CREATE FUNCTION saga.flush(%s, p_added int) RETURNS bigint
             LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp
             AS $f$ SELECT saga.flush(%s) $f$', v_parameters, v_places);
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA saga FROM PUBLIC;
    END $migration$";
/// Stored answers of the format of the next build.
const OF_NEXT_FORMAT: &str = r"SELECT count(*) FROM saga.stored_answer
    WHERE substring(response FROM 1 FOR 5) = '\xffffffff02'::bytea";

/// Creates a product, under an `Idempotency-Key`: gives the answer.
async fn product(target: &Target, key: &str) -> String {
    let request = Request::post("/stocks", r#"{"qty":1}"#).header("Idempotency-Key", key);
    request.send(target.http().unwrap()).await.unwrap().expect(201).unwrap().text()
}

/// Writes a record that inventory rejects, and waits until it is parked.
async fn park(target: &Target, key: &str) -> Value {
    let draft = Draft { key: Some(key.to_owned()), ..Draft::text(key) };
    Writer::new(&target.kafka).unwrap().write(ORDER_CREATED, &draft).await.unwrap();
    eventually(async || {
        let shown = get(target, "/v1/parked?plugin=inventory-command").await?;
        for entry in shown["parked"].as_array().context("no list")? {
            let detail =
                get(target, &format!("/v1/parked/{}", entry["id"].as_str().unwrap_or_default())).await?;
            if detail["content"]["value"] == key {
                return Ok(detail);
            }
        }
        anyhow::bail!("not parked: {shown}")
    })
    .await
}

/// Every order has ended as its stock allows.
async fn orders_end(target: &Target) {
    let mut orders = Database::connect(target, "cmd-order").await;
    for (status, expected) in [("CONFIRMED", CONFIRMED), ("CANCELLED", CANCELLED)] {
        let count = format!("SELECT count(*) FROM public.customer_order WHERE status = '{status}'");
        orders.reaches(&count, expected as i64).await;
    }
}

async fn shown(target: &Target, parked: &Value) -> Value {
    get(target, &format!("/v1/parked/{}", parked["id"].as_str().unwrap())).await.unwrap()
}

/// Leaves a unit of the older build in the outbox, and something that it has parked; gives the latter.
async fn older_build_leaves(target: &Target, products: Products, plugins: &Path) -> Value {
    let old = host::run(target, plugins).await;
    let parked = park(target, "parked by the older build").await;
    old.stop().await;
    let alone = folder::plugins(&["order-orchestrator"]);
    let doomed = host::spawn_with_fault(target, &alone, "after-commit-before-publish");
    let orders = products.place_some(target, 0..4);
    doomed.dies().await;
    drop(orders);
    parked
}

#[tokio::test]
async fn two_builds_run_side_by_side_and_the_older_one_reads_all_that_is_stored() {
    let stack = Own::start().await;
    let (old_at, new_at) = (&stack.target, &host::addressed(&stack.target));
    let plugins = folder::plugins(&[]);
    let first = host::run(old_at, &plugins).await;
    let products = Products::new(old_at).await;
    first.stop().await;
    let parked = older_build_leaves(old_at, products, &plugins).await;
    for service in SERVICES {
        Database::connect(old_at, service.database).await.run(NEXT_FLUSH).await;
    }
    let mut inventory = Database::connect(old_at, "cmd-inventory").await;

    let old = host::run(old_at, &plugins).await;
    let new = host::run_next_build(new_at, &plugins).await;
    groups::shared(&old_at.kafka, 2, SOON).await.unwrap();
    let orders =
        [products.place_some(old_at, 0..ORDERS / 2), products.place_some(new_at, ORDERS / 2..ORDERS)];
    let answers = [product(new_at, "at-the-newer").await, product(old_at, "at-the-older").await];
    for orders in orders {
        flow::all_accepted(orders).await;
    }
    orders_end(old_at).await;
    assert_eq!([product(old_at, "at-the-newer").await, product(new_at, "at-the-older").await], answers);
    let beside = park(new_at, "parked beside the older build").await;
    assert_eq!(inventory.number(OF_NEXT_FORMAT).await, 0, "the older build runs");
    assert_eq!(shown(new_at, &parked).await["content"], parked["content"]);
    assert_eq!(shown(old_at, &beside).await["content"], beside["content"]);

    old.stop().await;
    let mut tries = 0;
    eventually(async || {
        tries += 1;
        product(new_at, &format!("alone-{tries}")).await;
        ensure!(inventory.number(OF_NEXT_FORMAT).await > 0, "the format of the newer build is not written");
        Ok(())
    })
    .await;
    let alone = park(new_at, "parked by the newer build").await;
    new.stop().await;
    the_older_build_shows_what_it_cannot_read(old_at, &plugins, &alone).await;
}

/// Everything else goes on.
async fn the_older_build_shows_what_it_cannot_read(target: &Target, plugins: &Path, parked: &Value) {
    let _old = host::run(target, plugins).await;
    let unreadable = "it is of format 2, and this build reads formats up to 1";
    let detail = shown(target, parked).await;
    assert_eq!((&detail["unreadable"], &detail["content"]), (&Value::from(unreadable), &Value::Null));
    host::cli(target, &["redrive", parked["id"].as_str().unwrap()]);
    park(target, "parked after the newer build").await;
    product(target, "after-the-newer-build").await;
    assert_eq!(shown(target, parked).await["unreadable"], unreadable, "it stays");
    Request::get("/readyz").send(target.admin().unwrap()).await.unwrap().expect(200).unwrap();
}
