//! Postgres and Kafka of the development stack. The names of databases and topics are fixed, so tests that need hosts
//! of their own need a stack of their own.

use std::{future::Future, path::Path, sync::OnceLock};

use saga_bench::target::{Pids, Target};
use saga_host::devstack::{Stack, StackOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::folder;

/// Stacks of tests' own that run at the same time: each takes half a gigabyte, and a core while it starts.
static OWN: Semaphore = Semaphore::const_new(2);

/// The stack that tests share; it ends with this process.
pub(crate) fn shared() -> &'static Target {
    static SHARED: OnceLock<Target> = OnceLock::new();
    SHARED.get_or_init(|| {
        for_good(|| async {
            let stack = start(&folder::new("shared-stack"), None).await;
            (target(&stack), stack)
        })
    })
}

/// Starts what lives as long as this process, on a thread that does: children end with the thread that started them.
pub(crate) fn for_good<T: Send + 'static, K, F: Future<Output = (T, K)>>(
    start: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (started, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (value, _kept) = start().await;
            started.send(value).unwrap();
            std::future::pending::<()>().await;
        });
    });
    ready.recv().expect("what all share could not be started; see the panic above")
}

/// A stack of a test's own, with addresses for one host.
pub(crate) struct Own {
    stack: Stack,
    data: std::path::PathBuf,
    pub(crate) target: Target,
    _turn: SemaphorePermit<'static>,
}

impl Own {
    pub(crate) async fn start() -> Self {
        let turn = OWN.acquire().await.unwrap();
        let data = folder::new("stack");
        let stack = start(&data, None).await;
        let target = super::host::addressed(&target(&stack));
        Self { stack, data, target, _turn: turn }
    }

    /// Postgres and Kafka end and begin again, with what they had on disk, where they were.
    pub(crate) async fn restart(self) -> Self {
        let Self { stack, data, target, _turn } = self;
        let port = target.kafka.rsplit(':').next().unwrap().parse().unwrap();
        stack.stop().await;
        let stack = start(&data, Some(port)).await;
        assert_eq!((stack.kafka_bootstrap(), stack.postgres_url()), (&*target.kafka, &*target.postgres));
        Self { stack, data, target, _turn }
    }

    /// Waits for its end and removes its data.
    pub(crate) async fn stop(self) {
        self.stack.stop().await;
        std::fs::remove_dir_all(self.data).unwrap();
    }
}

async fn start(data: &Path, kafka_port: Option<u16>) -> Stack {
    let options = StackOptions { data: data.to_owned(), fresh: false, postgres_port: None, kafka_port };
    let stack = Stack::start(options).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(stack.pids().kafka.is_some(), "these tests need a real Kafka: install Java 17 and Maven");
    stack
}

fn target(stack: &Stack) -> Target {
    let (kafka, postgres) = (stack.kafka_bootstrap().to_owned(), stack.postgres_url().to_owned());
    Target { http: None, admin: None, kafka, postgres, pids: Pids::default() }
}
