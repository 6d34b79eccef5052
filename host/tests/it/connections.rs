//! Slow and silent callers: each is cut off in time, and none keeps others or the host API waiting for good.

use std::time::Duration;

use saga_testkit::{caller::Request, target::Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{SOON, folder, host, stack::Own};

const CONNECTIONS_MAX: usize = 4;
/// How fast a slow caller sends bytes: too few to reach the limit of a header's size.
const BYTE_EVERY: Duration = Duration::from_millis(20);
const LIMITS: [(&str, &str); 5] = [
    ("SAGA_HOST_HTTP_CONNECTIONS_MAX", "4"),
    ("SAGA_HOST_ADMIN_CONNECTIONS_MAX", "4"),
    ("SAGA_HOST_HEADER_S_MAX", "1"),
    ("SAGA_HOST_BODY_S_MAX", "1"),
    ("SAGA_HOST_IDLE_S_MAX", "2"),
];

async fn connect(address: &str, sends: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sends.as_bytes()).await.unwrap();
    stream
}

/// What the host sends until it closes the connection.
async fn received(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _closed = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn slow_and_silent_callers_are_cut_off_and_others_are_served() {
    let stack = Own::start().await;
    let _host = host::run_with(&stack.target, &folder::plugins(&["inventory-command"]), &LIMITS).await;
    let target = &stack.target;
    for address in [target.http().unwrap(), target.admin().unwrap()] {
        for sends in ["", "P", "GET /healthz HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let answered = received(connect(address, sends).await).await;
            assert!(!answered.contains("HTTP/1.1 200"), "{sends:?}: {answered}");
        }
        header_byte_by_byte(address).await;
        idle(address).await;
    }
    slow_body(target).await;
    more_than_may_be_open(target).await;
}

async fn header_byte_by_byte(address: &str) {
    let mut stream = connect(address, "GET / HTTP/1.1\r\nx: ").await;
    let mut clock = tokio::time::interval(BYTE_EVERY);
    let cut_off = async {
        while stream.write_all(b"a").await.is_ok() {
            clock.tick().await;
        }
    };
    timeout(SOON, cut_off).await.expect("a header may take for ever");
}

/// A connection is kept for further requests, but not for good.
async fn idle(address: &str) {
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answered = received(connect(address, &request.repeat(2)).await).await;
    assert_eq!(answered.matches("HTTP/1.1 ").count(), 2, "{answered}");
}

async fn slow_body(target: &Target) {
    let head =
        "POST /stocks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let answered = received(connect(target.http().unwrap(), head).await).await;
    assert!(answered.starts_with("HTTP/1.1 408"), "{answered}");
    assert!(answered.contains("application/problem+json"), "{answered}");
}

/// Whoever comes while all connections are silent waits until they are cut off. The host API has its own.
async fn more_than_may_be_open(target: &Target) {
    let address = target.http().unwrap();
    let mut silent = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        silent.push(connect(address, "").await);
    }
    Request::get("/healthz").send(target.admin().unwrap()).await.unwrap().expect(200).unwrap();
    let request = Request::post("/stocks", r#"{"qty":1}"#);
    timeout(SOON, request.send(address)).await.expect("it waits for ever").unwrap().expect(201).unwrap();
}
