//! Bad requests: refused with problem details that name the error, and without a row written.

use anyhow::{Context, Result, ensure};

use super::system::System;
use crate::caller::Request;
use crate::report::Report;

const TOO_LARGE: [u16; 1] = [413];
const WRONG_TYPE: [u16; 1] = [415];
const BAD: [u16; 2] = [400, 422];
const BAD_REQUEST: [u16; 1] = [400];
const NO_RESOURCE: [u16; 2] = [400, 404];

struct Case {
    request: Request,
    statuses: &'static [u16],
    naming: &'static str,
    what: String,
}

fn case(request: Request, statuses: &'static [u16], naming: &'static str, what: impl Into<String>) -> Case {
    Case { request, statuses, naming, what: what.into() }
}

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("bad input");
    let product = match system.product(10).await {
        Ok(product) => product,
        Err(error) => return report.note("a product to work with", Err(error)),
    };
    report.run("the system becomes quiet", system.quiet()).await;
    for case in orders(product).into_iter().chain(envelopes("/orders")) {
        report
            .run(
                format!("POST /orders, {}: {:?}", case.what, case.statuses),
                refused(system, "cmd-order", &case),
            )
            .await;
    }
    for case in stocks().into_iter().chain(envelopes("/stocks")) {
        report
            .run(
                format!("POST /stocks, {}: {:?}", case.what, case.statuses),
                refused(system, "cmd-inventory", &case),
            )
            .await;
    }
    for case in settings(product) {
        report
            .run(format!("PATCH {}: {:?}", case.what, case.statuses), refused(system, "cmd-inventory", &case))
            .await;
    }
    for case in reads() {
        report
            .run(format!("GET {}: {:?}", case.what, case.statuses), refused(system, "query-order", &case))
            .await;
    }
}

async fn refused(system: &System, database: &str, case: &Case) -> Result<()> {
    let rows = system.databases.written_rows(database).await.context("rows before")?;
    system.send(case.request.clone()).await?.expect_problem(case.statuses, case.naming)?;
    let after = system.databases.written_rows(database).await.context("rows after")?;
    ensure!(after == rows, "{} rows were written", after - rows);
    Ok(())
}

/// Values that are not an int32 of at least 1.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "1e40",
    "1.5",
    r#""1""#,
    "true",
    "null",
    "[1]",
];

fn orders(product: i64) -> Vec<Case> {
    let mut cases = vec![
        case(
            Request::post("/orders", format!(r#"{{"productId":{product}}}"#)),
            &BAD,
            "orderQty",
            "no orderQty",
        ),
        case(Request::post("/orders", r#"{"orderQty":1}"#), &BAD, "productId", "no productId"),
    ];
    for number in NUMBERS {
        let qty = format!(r#"{{"productId":{product},"orderQty":{number}}}"#);
        cases.push(case(Request::post("/orders", qty), &BAD, "orderQty", format!("orderQty {number}")));
        let id = format!(r#"{{"productId":{number},"orderQty":1}}"#);
        cases.push(case(Request::post("/orders", id), &BAD, "productId", format!("productId {number}")));
    }
    for id in [r#""""#, r#""abc""#, "5", "{}", r#""\u0000""#, r#""0193a1b2-0000-7000-8000-00000000abcg""#] {
        let body = format!(r#"{{"orderId":{id},"productId":{product},"orderQty":1}}"#);
        cases.push(case(Request::post("/orders", body), &BAD, "orderId", format!("orderId {id}")));
    }
    cases
}

fn stocks() -> Vec<Case> {
    let mut cases = vec![case(Request::post("/stocks", "{}"), &BAD, "qty", "no qty")];
    for number in NUMBERS {
        let statuses: &[u16] = if matches!(number, "0" | "-1") { &BAD_REQUEST } else { &BAD };
        cases.push(case(
            Request::post("/stocks", format!(r#"{{"qty":{number}}}"#)),
            statuses,
            "qty",
            format!("qty {number}"),
        ));
        if number != "null" {
            let body = format!(r#"{{"qty":1,"productId":{number}}}"#);
            cases.push(case(
                Request::post("/stocks", body),
                &BAD,
                "productId",
                format!("productId {number}"),
            ));
        }
    }
    cases
}

/// Bodies that are invalid whatever their members.
fn envelopes(path: &str) -> Vec<Case> {
    let post = |body: Vec<u8>| Request::post(path, body);
    let mut cases: Vec<Case> = ["", "{", "nothing", "{\"a\":}", "null", "7", "[]", "\"text\""]
        .into_iter()
        .map(|body| case(post(body.into()), &BAD, "", format!("the body {body:?}")))
        .collect();
    cases.push(case(post(vec![b'{', 0xff, 0xfe, b'}']), &BAD, "", "a body that is no UTF-8"));
    cases.push(case(post("[".repeat(20_000).into_bytes()), &BAD, "", "20,000 brackets"));
    let large = format!(r#"{{"productId":1,"orderQty":1,"qty":1,"note":"{}"}}"#, "x".repeat(70_000));
    cases.push(case(post(large.into_bytes()), &TOO_LARGE, "", "a body of 70 KB"));
    for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded"] {
        let body = r#"{"productId":1,"orderQty":1,"qty":1}"#;
        cases.push(case(
            post(body.into()).instead("Content-Type", kind),
            &WRONG_TYPE,
            "",
            format!("content type {kind}"),
        ));
    }
    cases
}

fn settings(product: i64) -> Vec<Case> {
    let patch =
        |path: String, statuses, naming| case(Request::new("PATCH", path.clone()), statuses, naming, path);
    let mut cases: Vec<Case> = [
        "?qty=0",
        "?qty=-1",
        "?qty=2147483648",
        "?qty=9223372036854775808",
        "?qty=abc",
        "?qty=1.5",
        "?qty=",
        "",
        "?quantity=5",
    ]
    .into_iter()
    .map(|query| patch(format!("/stocks/{product}{query}"), &BAD_REQUEST[..], "qty"))
    .collect();
    cases.push(patch("/stocks/2147483640?qty=5".to_owned(), &[404], ""));
    for id in ["abc", "0", "-1", "99999999999999999999", "1.0"] {
        cases.push(patch(format!("/stocks/{id}?qty=5"), &NO_RESOURCE, ""));
    }
    cases
}

fn reads() -> Vec<Case> {
    let get = |path: &str, statuses, naming| case(Request::get(path), statuses, naming, path);
    let mut cases = Vec::new();
    for list in ["/orders", "/stocks"] {
        for limit in ["0", "-1", "abc", "", "1.5", "99999999999999999999"] {
            cases.push(get(&format!("{list}?limit={limit}"), &BAD_REQUEST, "limit"));
        }
        for cursor in ["abc", "%00", "!!!!", "eyJhIjoxfQ"] {
            cases.push(get(&format!("{list}?cursor={cursor}"), &BAD_REQUEST, "cursor"));
        }
    }
    cases.push(get("/orders?status=DONE", &BAD_REQUEST, "status"));
    cases.push(get("/orders?status=", &BAD_REQUEST, "status"));
    cases.push(get("/notifications?orderId=abc", &BAD_REQUEST, "orderId"));
    cases.push(get("/notifications?orderId=", &BAD_REQUEST, "orderId"));
    cases.push(get("/stocks/2147483640", &NO_RESOURCE[1..], ""));
    cases.push(get("/stocks/abc", &NO_RESOURCE, ""));
    cases
}
