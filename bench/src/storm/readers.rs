//! Reads the routes of the plugins that are not swapped, and times them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::latency::Latencies;
use saga_testkit::caller::Request;
use saga_testkit::connection::Connection;
use saga_testkit::target::Target;

const ROUTES: [&str; 3] =
    ["/orders?limit=1", "/stocks/1", "/notifications?orderId=00000000-0000-0000-0000-000000000000"];
/// Between two requests of one route.
const EVERY: Duration = Duration::from_millis(10);

/// One reader a route.
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    running: JoinSet<Result<Latencies>>,
}

impl Readers {
    pub(super) fn start(target: &Target) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut running = JoinSet::new();
        for route in ROUTES {
            running.spawn(read(target.http()?.to_owned(), route, Arc::clone(&stop)));
        }
        Ok(Self { stop, running })
    }

    /// Every request must have been answered with 200.
    pub(super) async fn stop(mut self) -> Result<Latencies> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        while let Some(one) = self.running.join_next().await {
            all.join(one??);
        }
        Ok(all)
    }
}

async fn read(address: String, route: &'static str, stop: Arc<AtomicBool>) -> Result<Latencies> {
    let request = Request::get(route).encode(&address);
    let mut connection = Connection::open(&address).await?;
    let mut latencies = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = connection.exchange(&request, false).await.with_context(|| format!("GET {route}"))?;
        ensure!(
            answer.status == 200,
            "GET {route}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        latencies.add(began.elapsed());
        tokio::time::sleep(EVERY).await;
    }
    Ok(latencies)
}
