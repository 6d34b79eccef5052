//! librdkafka's broker in memory, for machines without Java.

use std::{sync::mpsc, thread};

use anyhow::Context;
use rdkafka::mocking::MockCluster;
use tokio::sync::oneshot;

/// A broker that lives in this process until it is dropped, on a port of its own choice.
#[derive(Debug)]
pub(super) struct Mock {
    pub bootstrap: String,
    /// Its end ends the thread that the broker belongs to.
    _alive: mpsc::Sender<()>,
}

impl Mock {
    /// Starts it on a thread: it must be dropped where it was made.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let (started, bootstrap) = oneshot::channel();
        let (alive, dropped) = mpsc::channel::<()>();
        thread::Builder::new().name("mock broker".to_owned()).spawn(move || match MockCluster::new(1) {
            Ok(cluster) => {
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                let _ = dropped.recv();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        let bootstrap = bootstrap.await?.context("starting the mock broker")?;
        Ok(Self { bootstrap, _alive: alive })
    }
}
