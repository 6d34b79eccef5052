//! What a decision may use besides its input: the unit's time, fresh ids, settings.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    time::Duration,
};

use crate::{host::Host, timestamp::Timestamp, uuid::Uuid};

/// The unit as a handler sees it.
pub struct Context<'a> {
    host: &'a dyn Host,
    now: Timestamp,
    batch: u32,
    place: Cell<u32>,
    ids: RefCell<Vec<Uuid>>,
    settings: RefCell<BTreeMap<&'static str, Option<String>>>,
}

impl<'a> Context<'a> {
    /// The context of a unit of `batch` deliveries or requests.
    #[must_use]
    pub fn new(host: &'a dyn Host, batch: u32) -> Self {
        Self {
            host,
            now: Timestamp(host.now()),
            batch,
            place: Cell::new(0),
            ids: RefCell::default(),
            settings: RefCell::default(),
        }
    }

    /// The time of the unit: the same during the whole call.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The place in the batch, from 0, of the delivery or request that is being handled.
    #[must_use]
    pub fn place(&self) -> u32 {
        self.place.get()
    }

    /// A fresh id of version 7. Fetched from the host for the whole batch at once.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        let mut ids = self.ids.borrow_mut();
        if ids.is_empty() {
            *ids = self.host.new_uuids(self.batch.max(1));
            ids.reverse();
        }
        ids.pop().unwrap_or_default()
    }

    /// The value of `name` in `[config]` of the policy file.
    pub fn config(&self, name: &'static str) -> Option<String> {
        self.settings.borrow_mut().entry(name).or_insert_with(|| self.host.config(name)).clone()
    }

    /// A value of `[config]` in whole seconds; `default` where it is missing or not a number.
    pub fn config_seconds(&self, name: &'static str, default: u64) -> Duration {
        Duration::from_secs(self.config(name).and_then(|text| text.parse().ok()).unwrap_or(default))
    }

    pub(crate) fn host(&self) -> &'a dyn Host {
        self.host
    }

    pub(crate) fn at(&self, place: u32) {
        self.place.set(place);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).field("place", &self.place).finish_non_exhaustive()
    }
}
