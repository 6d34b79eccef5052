//! Counts the bytes that pass between the host and a plugin, where [`ASKED`] is set: what would be copied
//! into and out of a component's memory. Counted is what is in the values: texts, bytes and numbers, these at
//! their shortest. What the canonical ABI puts around them, lengths, places and padding, is left out, and so
//! is what is copied inside the plugin.

use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use postcard::{ser_flavors::Size, serialize_with_flavor};
use serde::Serialize;

/// The variable that asks for it: counting reads every byte once more.
const ASKED: &str = "SAGA_HOST_NATIVE_CROSSINGS";

static COUNTS: LazyLock<bool> = LazyLock::new(|| env::var_os(ASKED).is_some());

/// What has crossed between the host and one plugin.
#[derive(Default)]
pub(crate) struct Crossings {
    calls: AtomicU64,
    into: AtomicU64,
    out_of: AtomicU64,
}

impl Crossings {
    pub(crate) const fn new() -> Self {
        Self { calls: AtomicU64::new(0), into: AtomicU64::new(0), out_of: AtomicU64::new(0) }
    }

    /// A unit's call begins.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Something is handed to the plugin.
    pub(crate) fn handed_in(&self, value: &impl Serialize) {
        add(&self.into, value);
    }

    /// The plugin hands something over.
    pub(crate) fn handed_out(&self, value: &impl Serialize) {
        add(&self.out_of, value);
    }

    /// Says it on the standard error, when asked.
    pub(crate) fn tell(&self, plugin: &str) {
        let [calls, into, out_of] =
            [&self.calls, &self.into, &self.out_of].map(|count| count.load(Ordering::Relaxed));
        if *COUNTS {
            eprintln!("crossings plugin={plugin} calls={calls} bytes_in={into} bytes_out={out_of}");
        }
    }
}

fn add(bytes: &AtomicU64, value: &impl Serialize) {
    if *COUNTS {
        // A value that is in memory has a size.
        let size = serialize_with_flavor(value, Size::default()).unwrap_or(0);
        bytes.fetch_add(size as u64, Ordering::Relaxed);
    }
}
