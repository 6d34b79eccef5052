//! What a plugin asks for: its `describe()`, as the host uses it.

use super::{bindings::exports::saga::plugin::manifest as wit, migration::Migration};

/// Mirrors `manifest.description` of `wit/plugin.wit`.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Name; file stem and policy name are the same.
    pub name: String,
    /// For people.
    pub version: String,
    /// What it reads.
    pub subscriptions: Vec<Subscription>,
    /// What it answers; a request names its route by the place in this list.
    pub routes: Vec<Route>,
    /// Topics that it publishes to.
    pub publishes: Vec<String>,
    /// Saga types that it owns.
    pub sagas: Vec<String>,
    /// Milliseconds between unit starts, for read models.
    pub gather_ms: u32,
    /// Its schema, in order.
    pub migrations: Vec<Migration>,
}

/// A topic that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topic.
    pub topic: String,
    /// Where the key of the saga or entity is.
    pub correlation: Correlation,
    /// Whether a foreign producer's ids are remembered.
    pub foreign_ids: bool,
}

/// Where the ordering key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// The record's key.
    RecordKey,
    /// A header, by lower-case name.
    Header(String),
    /// JSON pointer (RFC 6901) into the value.
    Json(String),
    /// Nowhere.
    Unordered,
}

/// A route that it answers.
#[derive(Clone, Debug)]
pub struct Route {
    /// Upper case.
    pub method: String,
    /// `/orders/{order-id}/events`
    pub path: String,
    /// True for a read-only transaction outside the lanes.
    pub read: bool,
}

/// A route as its manifest names it: the same in every version that has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteName {
    /// Upper case.
    pub method: String,
    /// `/orders/{order-id}/events`
    pub path: String,
}

/// The place of a route in a manifest: versions may list their routes differently.
#[must_use]
pub fn route_index(manifest: &Manifest, name: &RouteName) -> Option<u32> {
    let place =
        manifest.routes.iter().position(|route| route.method == name.method && route.path == name.path)?;
    u32::try_from(place).ok()
}

impl Manifest {
    /// From what `describe` returned; and the names of the extensions that it asks for.
    pub(crate) fn of(said: wit::Description) -> (Self, Vec<String>) {
        let subscriptions = said.subscriptions.into_iter().map(|subscription| Subscription {
            topic: subscription.topic,
            correlation: subscription.correlation.into(),
            foreign_ids: subscription.foreign_ids,
        });
        let routes = said.routes.into_iter().map(|route| Route {
            method: route.method,
            path: route.path,
            read: matches!(route.access, wit::Access::Read),
        });
        let migrations = said.migrations.into_iter().map(|m| Migration { name: m.name, sql: m.sql });
        let manifest = Self {
            name: said.name,
            version: said.version,
            subscriptions: subscriptions.collect(),
            routes: routes.collect(),
            publishes: said.publishes,
            sagas: said.sagas,
            gather_ms: said.gather_ms,
            migrations: migrations.collect(),
        };
        (manifest, said.extensions.into_iter().map(|(name, _)| name).collect())
    }
}

impl From<wit::Correlation> for Correlation {
    fn from(said: wit::Correlation) -> Self {
        match said {
            wit::Correlation::RecordKey => Self::RecordKey,
            wit::Correlation::Header(name) => Self::Header(name),
            wit::Correlation::Json(pointer) => Self::Json(pointer),
            wit::Correlation::Unordered => Self::Unordered,
        }
    }
}
