//! The operator's policy file beside a component: the ceiling of what the plugin may ask for.

use std::collections::BTreeMap;

use super::{manifest::Manifest, version::Rejection};
use crate::config::MigrationsMode;

/// A plugin's limits and grants.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The plugin: file stem of the component and of this file.
    pub name: String,
    /// `[database]`
    pub database: DatabaseGrant,
    /// `[kafka]`
    pub kafka: KafkaGrant,
    /// `[http]`
    pub http: HttpGrant,
    /// `[limits]`
    pub limits: Limits,
    /// `[rollout]`
    pub rollout: Rollout,
    /// `[config]`: what `context.config` answers.
    pub config: BTreeMap<String, String>,
    /// SHA-256 of the file's text, lower-case hex.
    pub digest: String,
}

/// The plugin's database.
#[derive(Clone, Debug)]
pub struct DatabaseGrant {
    /// Name.
    pub name: String,
    /// Restricted role; default `plugin_<name>`, `-` as `_`.
    pub role: String,
    /// None: as the host is told.
    pub migrations: Option<MigrationsMode>,
}

/// Topics.
#[derive(Clone, Debug)]
pub struct KafkaGrant {
    /// May be subscribed to.
    pub read: Vec<String>,
    /// May be published to.
    pub write: Vec<String>,
    /// Consumer group; default the plugin's name.
    pub group: String,
    /// Where a group without a position starts.
    pub start: Start,
}

/// Where a group without a position starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
    /// Where another group has committed.
    Group(String),
}

/// Routes.
#[derive(Clone, Debug)]
pub struct HttpGrant {
    /// `METHOD /path/{name}`
    pub routes: Vec<String>,
    /// A larger body is answered by 413.
    pub body_bytes_max: usize,
}

/// Limits of one plugin, each with its default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory of one instance.
    pub memory_mib_max: u32,
    /// Guest time of one call, host calls not counted.
    pub guest_ms_max: u32,
    /// A unit's time in Postgres and the guest together.
    pub unit_ms_max: u32,
    /// Deliveries or requests of one unit.
    pub batch_deliveries_max: u32,
    /// Statements of one unit.
    pub statements_max: u32,
    /// Rows of one result.
    pub rows_max: u32,
    /// Bytes of one result.
    pub result_bytes_max: usize,
    /// Bytes that a guest hands over in one call.
    pub call_bytes_max: usize,
    /// Messages of one unit.
    pub publish_messages_max: u32,
    /// Bytes that wait for a lane: then the consumer stops and HTTP answers 503.
    pub queue_bytes_max: usize,
    /// Log lines of one unit.
    pub log_lines_max: u32,
    /// Attempts before a delivery is held for a person.
    pub attempts_max: u32,
}

/// How versions follow each other.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// What becomes of sagas in flight.
    pub in_flight: InFlight,
}

/// What becomes of sagas in flight when a new version is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// They stay with the version that began them.
    Pin,
    /// They move to the new version.
    Move,
}

impl Policy {
    /// Reads the text of `<file_stem>.toml`.
    ///
    /// # Errors
    /// One sentence that names the file and the field.
    pub fn parse(file_stem: &str, _text: &str) -> Result<Self, Rejection> {
        Err(Rejection(format!("{file_stem}.toml: this build reads no policies")))
    }

    /// The text of a policy that grants what the plugin asks for and nothing else.
    #[must_use]
    pub fn suggested(manifest: &Manifest) -> String {
        format!("name = {:?}\n", manifest.name)
    }
}
