//! The service routes: takes HTTP requests, and answers with the plugin's response or with problem details.
//!
//! ```text
//! handler ─▶ router ─▶ body ─┬─▶ write ─▶ pending (lane) ─▶ waiters ─▶ answer
//!                            └─▶ readers ──────────────────────────▶ answer
//! ```

mod body;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handler;
mod idempotency;
mod outcome;
mod prefer;
pub mod readers;
pub mod router;
mod translate;
mod write;

use std::{future::IntoFuture, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{handler::Handler, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{handler::Ingress, router::RouteTable};

/// How long a host that stops waits for requests in progress.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Answers the service routes until `stop`. Then it accepts nothing more and finishes the requests in
/// progress.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    routes: Arc<ArcSwap<RouteTable>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let ingress = Arc::new(Ingress { routes, stop: stop.clone() });
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, handler::handle.with_state(ingress).into_make_service())
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        done = server.into_future() => done,
        () = expired(stop) => {
            tracing::warn!(
                "requests in progress did not end within {} s of the stop; they are dropped",
                DRAIN_WITHIN.as_secs()
            );
            Ok(())
        }
    }
}

async fn expired(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN_WITHIN).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{sync::Arc, time::Duration};

    use arc_swap::ArcSwap;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::sync::CancellationToken;

    use super::{RouteTable, serve};

    #[tokio::test]
    async fn a_stopped_listener_closes_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let routes = Arc::new(ArcSwap::from_pointee(RouteTable::default()));
        let server = tokio::spawn(serve(listener, routes, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 22];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 404 Not Found");
        stop.cancel();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("content-type: application/problem+json"), "{rest}");
        server.await.unwrap().unwrap();
        // A process that another test spawns at this moment inherits the listener until it calls exec.
        let closed = async { while TcpStream::connect(address).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    }
}
