//! What a plugin asks for: the result of its `describe`.

use super::{bindings::exports::saga::plugin::manifest as wit, migration::Migration};

/// Mirrors `manifest.description` of `wit/plugin.wit`, which documents the fields.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Its name: the stem of its file and of its policy file.
    pub name: String,
    /// For people.
    pub version: String,
    /// Topics that it reads.
    pub subscriptions: Vec<Subscription>,
    /// Routes that it answers. A request names its route by the place in this list.
    pub routes: Vec<Route>,
    /// Topics that it publishes to.
    pub publishes: Vec<String>,
    /// Saga types that it owns.
    pub sagas: Vec<String>,
    /// Milliseconds to gather records for a unit, for read models.
    pub gather_ms: u32,
    /// Changes of its schema, in order.
    pub migrations: Vec<Migration>,
}

/// A topic that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topic.
    pub topic: String,
    /// Where the correlation key is.
    pub correlation: Correlation,
    /// Whether the ids of foreign producers are stored, to drop repeats.
    pub foreign_ids: bool,
}

/// Where a record carries its correlation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// The record's key.
    RecordKey,
    /// A header, by lower-case name.
    Header(String),
    /// JSON pointer (RFC 6901) into the value.
    Json(String),
    /// No key.
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

/// A route by method and path: the same in every version that has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteName {
    /// Upper case.
    pub method: String,
    /// `/orders/{order-id}/events`
    pub path: String,
}

/// The place of a route in a manifest. Versions may list their routes in another order.
#[must_use]
pub fn route_index(manifest: &Manifest, name: &RouteName) -> Option<u32> {
    let place =
        manifest.routes.iter().position(|route| route.method == name.method && route.path == name.path)?;
    u32::try_from(place).ok()
}

impl Manifest {
    /// The manifest that `describe` returned, and the names of the extensions that it asks for.
    pub(crate) fn of(returned: wit::Description) -> (Self, Vec<String>) {
        let subscriptions = returned.subscriptions.into_iter().map(|subscription| Subscription {
            topic: subscription.topic,
            correlation: subscription.correlation.into(),
            foreign_ids: subscription.foreign_ids,
        });
        let routes = returned.routes.into_iter().map(|route| Route {
            method: route.method,
            path: route.path,
            read: matches!(route.access, wit::Access::Read),
        });
        let migrations = returned.migrations.into_iter().map(|m| Migration { name: m.name, sql: m.sql });
        let manifest = Self {
            name: returned.name,
            version: returned.version,
            subscriptions: subscriptions.collect(),
            routes: routes.collect(),
            publishes: returned.publishes,
            sagas: returned.sagas,
            gather_ms: returned.gather_ms,
            migrations: migrations.collect(),
        };
        (manifest, returned.extensions.into_iter().map(|(name, _)| name).collect())
    }
}

impl From<wit::Correlation> for Correlation {
    fn from(returned: wit::Correlation) -> Self {
        match returned {
            wit::Correlation::RecordKey => Self::RecordKey,
            wit::Correlation::Header(name) => Self::Header(name),
            wit::Correlation::Json(pointer) => Self::Json(pointer),
            wit::Correlation::Unordered => Self::Unordered,
        }
    }
}
