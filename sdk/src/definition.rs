//! What a plugin is: one value from which its description and its dispatch both come, so they cannot differ.

use std::any::TypeId;

pub use crate::bindings::exports::saga::plugin::manifest::Migration;
use crate::{
    bindings::{
        exports::saga::plugin::manifest::{self, Access, Description},
        saga::plugin::types::Failure,
    },
    fold::{self, Fold},
    input::{Delivery, Input, Outcome, Request, Response},
    read::{self, Read},
    saga::{self, Saga},
    unit::Unit,
};

/// Handles the deliveries or requests at these places of a unit.
type Run<S, A> = fn(&mut Unit<'_, S, A>, &[u32]) -> Result<(), Failure>;

/// A handler and its identity: consecutive items of one handler are handled together.
pub(crate) struct Handler<S, A> {
    pub(crate) id: TypeId,
    pub(crate) run: Run<S, A>,
}

impl<S, A> Clone for Handler<S, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, A> Copy for Handler<S, A> {}

/// The handler of a topic, timer or saga.
pub(crate) type OfDeliveries = Handler<Delivery, Outcome>;
/// The handler of a route.
pub(crate) type OfRequests = Handler<Request, Response>;

/// Where a record carries its correlation key, which orders deliveries and finds their saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// The record's key.
    RecordKey,
    /// A header, by its lower-case name.
    Header(&'static str),
    /// A JSON pointer into the value, e.g. `/orderId`.
    Json(&'static str),
    /// No key: no order is kept.
    Unordered,
}

/// A plugin: what it handles, and with which handlers.
///
/// ```ignore
/// fn define() -> Definition {
///     Definition::new("inventory-command", env!("CARGO_PKG_VERSION"))
///         .on::<Deduct>("order-created-topic", Correlation::Json("/orderId"))
///         .http::<SetStock>("PATCH", "/stocks/{productId}")
///         .publishes(&["stock-updated-topic"])
///         .migrations([migration!("../migrations/0001_stock.sql")])
/// }
/// saga_plugin::plugin!(define);
/// ```
pub struct Definition {
    name: &'static str,
    version: &'static str,
    topics: Vec<(&'static str, Correlation, OfDeliveries)>,
    timers: Vec<(&'static str, OfDeliveries)>,
    sagas: Vec<(&'static str, OfDeliveries)>,
    routes: Vec<(&'static str, &'static str, Access, OfRequests)>,
    publishes: Vec<&'static str>,
    gather_ms: u32,
    migrations: Vec<Migration>,
}

impl Definition {
    /// A plugin without handlers. `name` is the stem of its file.
    #[must_use]
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            topics: Vec::new(),
            timers: Vec::new(),
            sagas: Vec::new(),
            routes: Vec::new(),
            publishes: Vec::new(),
            gather_ms: 0,
            migrations: Vec::new(),
        }
    }

    /// Handles the records of a topic. A handler of several topics handles their records together, in the
    /// batch's order.
    #[must_use]
    pub fn on<F: Fold>(mut self, topic: &'static str, correlation: Correlation) -> Self
    where
        F::Input: Input<Source = Delivery, Answer = Outcome>,
    {
        self.topics.push((topic, correlation, Handler { id: TypeId::of::<F>(), run: fold::run::<F> }));
        self
    }

    /// Handles the timers whose name starts with `prefix`.
    #[must_use]
    pub fn timer<F: Fold>(mut self, prefix: &'static str) -> Self
    where
        F::Input: Input<Source = Delivery, Answer = Outcome>,
    {
        self.timers.push((prefix, Handler { id: TypeId::of::<F>(), run: fold::run::<F> }));
        self
    }

    /// Owns a type of saga, and handles its deadlines.
    #[must_use]
    pub fn saga<S: Saga>(mut self) -> Self {
        self.sagas.push((S::TYPE, Handler { id: TypeId::of::<S>(), run: saga::run::run::<S> }));
        self
    }

    /// Handles the records of a topic as replies to a saga. The correlation key is the saga's key.
    #[must_use]
    pub fn replies<S: Saga>(mut self, topic: &'static str, correlation: Correlation) -> Self {
        self.topics.push((topic, correlation, Handler { id: TypeId::of::<S>(), run: saga::run::run::<S> }));
        self
    }

    /// Handles a route that writes, e.g. `"PATCH", "/stocks/{productId}"`.
    #[must_use]
    pub fn http<F: Fold>(mut self, method: &'static str, path: &'static str) -> Self
    where
        F::Input: Input<Source = Request, Answer = Response>,
    {
        self.routes.push((
            method,
            path,
            Access::Write,
            Handler { id: TypeId::of::<F>(), run: fold::run::<F> },
        ));
        self
    }

    /// Handles a `GET` route.
    #[must_use]
    pub fn get<R: Read>(mut self, path: &'static str) -> Self {
        self.routes.push(("GET", path, Access::Read, Handler { id: TypeId::of::<R>(), run: read::run::<R> }));
        self
    }

    /// Adds topics that it publishes to.
    #[must_use]
    pub fn publishes(mut self, topics: &[&'static str]) -> Self {
        self.publishes.extend(topics);
        self
    }

    /// For read models: gathers records for this many milliseconds in Kafka, and again between two units, so
    /// that fetches and units are fewer and larger. A record may wait twice as long.
    #[must_use]
    pub fn gather_ms(mut self, gather_ms: u32) -> Self {
        self.gather_ms = gather_ms;
        self
    }

    /// Adds changes of its schema, in order. [`crate::migration!`] makes each from a file.
    #[must_use]
    pub fn migrations(mut self, migrations: impl IntoIterator<Item = Migration>) -> Self {
        self.migrations.extend(migrations);
        self
    }

    /// What `manifest.describe` returns.
    #[must_use]
    pub fn describe(&self) -> Description {
        let owned = |names: &mut dyn Iterator<Item = &'static str>| names.map(str::to_owned).collect();
        let subscription =
            |(topic, correlation, _): &(&str, Correlation, OfDeliveries)| manifest::Subscription {
                topic: (*topic).to_owned(),
                correlation: (*correlation).into(),
                foreign_ids: true,
            };
        let route = |(method, path, access, _): &(&str, &str, Access, OfRequests)| manifest::Route {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            access: *access,
        };
        Description {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            subscriptions: self.topics.iter().map(subscription).collect(),
            routes: self.routes.iter().map(route).collect(),
            publishes: owned(&mut self.publishes.iter().copied()),
            sagas: owned(&mut self.sagas.iter().map(|(saga_type, _)| *saga_type)),
            gather_ms: self.gather_ms,
            migrations: self.migrations.clone(),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn of_topic(&self, topic: &str) -> Option<OfDeliveries> {
        self.topics.iter().find(|(known, _, _)| *known == topic).map(|(_, _, handler)| *handler)
    }

    pub(crate) fn of_timer(&self, name: &str) -> Option<OfDeliveries> {
        self.timers.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, handler)| *handler)
    }

    pub(crate) fn of_saga(&self, saga_type: &str) -> Option<OfDeliveries> {
        self.sagas.iter().find(|(known, _)| *known == saga_type).map(|(_, handler)| *handler)
    }

    pub(crate) fn of_route(&self, route: u32) -> Option<OfRequests> {
        self.routes.get(usize::try_from(route).ok()?).map(|(_, _, _, handler)| *handler)
    }
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl From<Correlation> for manifest::Correlation {
    fn from(correlation: Correlation) -> Self {
        match correlation {
            Correlation::RecordKey => Self::RecordKey,
            Correlation::Header(name) => Self::Header(name.to_owned()),
            Correlation::Json(pointer) => Self::Json(pointer.to_owned()),
            Correlation::Unordered => Self::Unordered,
        }
    }
}

/// Includes a file of SQL as a migration of the same name.
#[macro_export]
macro_rules! migration {
    ($path:literal) => {
        $crate::Migration {
            name: $path.rsplit('/').next().unwrap_or($path).to_owned(),
            sql: include_str!($path).to_owned(),
        }
    };
}
