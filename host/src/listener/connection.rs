//! One connection: serves its requests, and closes it when it is silent for too long.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Limits;

/// A connection that was accepted.
pub(super) struct Connection<S> {
    service: S,
    activity: Arc<Activity>,
    limits: Limits,
}

impl<S> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    pub(super) fn new(service: S, limits: Limits) -> Self {
        Self { service, activity: Arc::new(Activity::new()), limits }
    }

    /// Serves it until the caller closes it, until it is silent for too long, or until `stop`, when it
    /// finishes its requests in progress.
    pub(super) async fn serve(
        self,
        builder: &Builder<TokioExecutor>,
        stream: TcpStream,
        stop: &CancellationToken,
    ) {
        let Self { service, activity, limits } = self;
        let counter = activity.clone();
        let counted = service_fn(move |request| {
            let in_progress = InProgress::begin(&counter);
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                drop(in_progress);
                answer
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), counted));
        let mut stopping = false;
        loop {
            tokio::select! {
                served = connection.as_mut() => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = activity.silent_for_too_long(&limits) => return,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Since when a connection has had no request in progress.
struct Activity {
    opened_at: Instant,
    in_progress: AtomicU32,
    has_begun: AtomicBool,
    /// When the last request ended, after `opened_at`.
    ended_after_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            opened_at: Instant::now(),
            in_progress: AtomicU32::new(0),
            has_begun: AtomicBool::new(false),
            ended_after_ms: AtomicU64::new(0),
        }
    }

    async fn silent_for_too_long(&self, limits: &Limits) {
        loop {
            let limit = match self.has_begun.load(Ordering::Acquire) {
                true => limits.idle_max,
                false => limits.header_within,
            };
            let ended_after = Duration::from_millis(self.ended_after_ms.load(Ordering::Acquire));
            let now = Instant::now();
            let until = match self.in_progress.load(Ordering::Acquire) {
                0 => self.opened_at + ended_after + limit,
                _ => now + limit,
            };
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A request in progress, until it is dropped.
struct InProgress(Arc<Activity>);

impl InProgress {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.has_begun.store(true, Ordering::Release);
        activity.in_progress.fetch_add(1, Ordering::AcqRel);
        Self(activity.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let after = u64::try_from(self.0.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_after_ms.store(after, Ordering::Release);
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}
