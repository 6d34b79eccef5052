//! What a plugin asks for: its `describe()`, as the host uses it.

use crate::store::Migration;

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
#[derive(Clone, Debug)]
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
    /// JSON pointer (RFC 6901) into the value or body.
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
    /// Two requests of one key never share a unit.
    pub correlation: Correlation,
}
