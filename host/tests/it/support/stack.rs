//! Postgres and Kafka of the development stack. The names of databases and topics are fixed, so tests that
//! need hosts of their own need a stack of their own.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use saga_devstack::{Stack, StackOptions};
use saga_testkit::target::{Pids, Target};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{clear, folder};

/// How many tests have a stack of their own at a time. Each stack takes half a gigabyte, and a core while it
/// starts.
static OWN: Semaphore = Semaphore::const_new(2);

/// The stack that tests share. It ends with this process.
pub(crate) fn shared() -> &'static Target {
    static SHARED: OnceLock<Target> = OnceLock::new();
    SHARED.get_or_init(|| {
        for_good(|| async {
            let stack = start(&folder::new("shared-stack"), None).await;
            (target(&stack), stack)
        })
    })
}

/// Starts something that lives as long as this process, on a thread that does the same: children end with the
/// thread that started them.
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
    ready.recv().expect("what the tests share could not be started; see the panic above")
}

/// A stack that one test uses at a time, as empty as a new one, with addresses for one host. Dropping it
/// passes it on to another test, unless this test has failed. Declare it before the hosts, so that they end
/// first.
pub(crate) struct Own {
    running: Option<Running>,
    pub(crate) target: Target,
    _turn: SemaphorePermit<'static>,
}

struct Running {
    stack: Stack,
    data: PathBuf,
}

/// Stacks whose test has ended. Emptying one takes a second; starting one takes ten.
static FREE: Mutex<Vec<Running>> = Mutex::new(Vec::new());

impl Own {
    pub(crate) async fn start() -> Self {
        let turn = OWN.acquire().await.unwrap();
        let free = FREE.lock().unwrap().pop();
        let running = match free {
            Some(running) => {
                clear::all(&target(&running.stack)).await;
                running
            }
            None => {
                let data = folder::new("stack");
                Running { stack: start(&data, None).await, data }
            }
        };
        let target = super::host::addressed(&target(&running.stack));
        Self { running: Some(running), target, _turn: turn }
    }

    /// Restarts Postgres and Kafka on the same data, at the same addresses.
    pub(crate) async fn restart(&mut self) {
        let Running { stack, data } = self.running.take().expect("it runs until it is dropped");
        let port = self.target.kafka.rsplit(':').next().unwrap().parse().unwrap();
        stack.stop().await;
        let stack = start(&data, Some(port)).await;
        assert_eq!(stack.kafka_bootstrap(), self.target.kafka);
        assert_eq!(stack.postgres_url(), self.target.postgres);
        self.running = Some(Running { stack, data });
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(running) = self.running.take().filter(|_| !std::thread::panicking()) {
            FREE.lock().unwrap().push(running);
        }
    }
}

async fn start(data: &Path, kafka_port: Option<u16>) -> Stack {
    let options = StackOptions {
        data: data.to_owned(),
        fresh: false,
        postgres_port: None,
        kafka_port,
        kafka_listeners: Vec::new(),
    };
    Stack::start(options).await.unwrap_or_else(|error| panic!("{error:#}"))
}

fn target(stack: &Stack) -> Target {
    let (kafka, postgres) = (stack.kafka_bootstrap().to_owned(), stack.postgres_url().to_owned());
    Target { http: None, admin: None, kafka, postgres, pids: Pids::default(), more: Vec::new() }
}
