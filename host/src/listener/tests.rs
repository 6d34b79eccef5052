use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Limits, serve};

const LIMITS: Limits = Limits {
    connections_max: 2,
    connections_setting: "connections_max",
    header_within: Duration::from_millis(100),
    idle_max: Duration::from_millis(100),
    streams_max: 8,
};
/// Every wait of these tests ends by then.
const SOON: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A listener whose service answers `/slow` only when the listener stops.
async fn running(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let stopped = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let stopped = stopped.clone();
        async move {
            if request.uri().path() == "/slow" {
                stopped.cancelled().await;
            }
            Ok::<_, Infallible>(Response::new(Body::from("answered")))
        }
    });
    let task = tokio::spawn(serve(listener, "tests", service, limits, stop.clone()));
    Running { address, stop, task }
}

async fn connect(running: &Running, sends: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(sends).await.unwrap();
    stream
}

/// What the listener sends until it closes the connection.
async fn received(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _closed = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_caller_that_sends_no_whole_header_is_disconnected() {
    let running = running(LIMITS).await;
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for sends in [&b""[..], b"P", b"GET / HTTP/1.1\r\nhost: a\r\n", http2] {
        let mut stream = connect(&running, sends).await;
        assert!(!received(&mut stream).await.contains("HTTP/1.1 200"), "{sends:?}");
    }
    let mut stream = connect(&running, REQUEST).await;
    let answers = received(&mut stream).await;
    assert_eq!(answers.matches("answered").count(), 1, "closed when it was idle: {answers}");
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_is_cut_off() {
    let running = running(LIMITS).await;
    let mut stream = connect(&running, b"GET / HTTP/1.1\r\na: ").await;
    // Too slow to reach the limit of a header's size.
    let mut clock = tokio::time::interval(Duration::from_millis(5));
    let cut_off = async {
        while stream.write_all(b"x").await.is_ok() {
            clock.tick().await;
        }
    };
    tokio::time::timeout(SOON, cut_off).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_another_one_ends() {
    let patient = Limits { header_within: SOON * 2, idle_max: SOON * 2, ..LIMITS };
    let running = running(patient).await;
    let silent = [connect(&running, b"").await, connect(&running, b"").await];
    let mut third = connect(&running, REQUEST).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(50), third.read(&mut byte)).await;
    assert!(early.is_err(), "it is served although the most connections are open");
    drop(silent);
    tokio::time::timeout(SOON, third.read_exact(&mut byte)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_in_progress_is_not_idle_and_is_finished_at_the_stop() {
    let running = running(LIMITS).await;
    let mut slow = connect(&running, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // Opened later, and disconnected for its silence.
    received(&mut connect(&running, b"").await).await;
    running.stop.cancel();
    assert!(received(&mut slow).await.contains("answered"));
    tokio::time::timeout(SOON, running.task).await.unwrap().unwrap();
    // A process that another test spawns at this moment inherits the listener until it calls exec.
    let closed = async { while TcpStream::connect(running.address).await.is_ok() {} };
    tokio::time::timeout(SOON, closed).await.unwrap();
}
