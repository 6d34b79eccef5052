//! Listeners: accepts connections and serves them, bounded in number and in time. Both the service routes and
//! the host API use it. No caller, however slow or silent, keeps a connection for good.
//!
//! ```text
//!  bind ─▶ accept (waits while connections_max are open) ─▶ connection ─▶ service ─▶ body
//! ```

mod bind;
pub mod body;
mod connection;
pub mod handles;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::bind::bind;
use self::connection::Connection;

/// How long a listener that stops waits for requests in progress.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a failure to accept, e.g. because the process has no file handle left.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's header, at most.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Bytes that a caller may send ahead in one stream, and in one connection, of HTTP/2.
const HTTP2_STREAM_BYTES_MAX: u32 = 256 << 10;
const HTTP2_CONNECTION_BYTES_MAX: u32 = 512 << 10;
/// How often an HTTP/2 caller is asked whether it is still there, and how soon it must answer.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PONG_WITHIN: Duration = Duration::from_secs(20);

/// The limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the queue of the operating system.
    pub connections_max: usize,
    /// The name of the setting that they come from, for the log.
    pub connections_setting: &'static str,
    /// How soon after it was opened a connection must have sent the header of its first request.
    pub header_within: Duration,
    /// How long a connection stays open without a request in progress. A caller must have read a response by
    /// then, too.
    pub idle_max: Duration,
    /// Requests at a time in one HTTP/2 connection.
    pub streams_max: u32,
}

/// Serves connections until `stop`. Then it accepts nothing more, finishes the requests in progress, and
/// closes the connections. `what` is for the log: `service routes`.
pub async fn serve<S>(
    listener: TcpListener,
    what: &'static str,
    service: S,
    limits: Limits,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let (connections, drop_all) = (TaskTracker::new(), CancellationToken::new());
    let (open, builder) = (Arc::new(Semaphore::new(limits.connections_max)), Arc::new(builder(&limits)));
    let mut acceptor = Acceptor {
        listener,
        what,
        setting: limits.connections_setting,
        open,
        is_failing: false,
        is_full: false,
    };
    while let Some((stream, permit)) = stop.run_until_cancelled(acceptor.accept()).await {
        let connection = Connection::new(service.clone(), limits);
        let (builder, stop, drop_all) = (builder.clone(), stop.clone(), drop_all.clone());
        connections.spawn(async move {
            drop_all.run_until_cancelled(connection.serve(&builder, stream, &stop)).await;
            drop(permit);
        });
    }
    drop(acceptor);
    connections.close();
    if tokio::time::timeout(DRAIN_WITHIN, connections.wait()).await.is_err() {
        let seconds = DRAIN_WITHIN.as_secs();
        tracing::warn!("requests of the {what} did not end within {seconds} s of the stop; they are dropped");
        drop_all.cancel();
    }
}

/// HTTP/1's own time limit for headers is off: it would count from the end of the previous request, so it
/// would also be the limit of an idle connection. [`Connection`] has a limit for each.
fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None).max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PONG_WITHIN)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(HTTP2_STREAM_BYTES_MAX)
        .initial_connection_window_size(HTTP2_CONNECTION_BYTES_MAX);
    builder
}

/// Accepts connections, as many as may be open at a time.
struct Acceptor {
    listener: TcpListener,
    what: &'static str,
    setting: &'static str,
    open: Arc<Semaphore>,
    is_failing: bool,
    is_full: bool,
}

impl Acceptor {
    /// The next connection, and the permit that it holds while it is open. Cancelling it loses none.
    async fn accept(&mut self) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = self.permit().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.is_failing = false;
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    return (stream, permit);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!(reason = %error, "the {} cannot accept connections, retrying", self.what);
                    }
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Waits while the most connections are open. Logs it when that begins, not for each caller that waits.
    async fn permit(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = self.open.clone().try_acquire_owned() {
                self.is_full = false;
                return permit;
            }
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    "all connections of the {} are in use, further callers wait; to allow more, raise {}",
                    self.what,
                    self.setting
                );
            }
            // The semaphore is never closed.
            if let Ok(permit) = self.open.clone().acquire_owned().await {
                return permit;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
