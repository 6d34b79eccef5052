//! What a policy grants: a database, topics, routes.

use serde::{Deserialize, Deserializer, de};

use crate::config::MigrationsMode;

/// The plugin's database and its role there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseGrant {
    /// Name of the database, which the host creates when it is missing.
    pub name: String,
    /// The restricted role of the plugin's units. Default: `plugin_<name>` with `_` for `-`.
    #[serde(default)]
    pub role: String,
    /// What the host does with the plugin's migrations. None: as the host's own setting says.
    #[serde(default)]
    pub migrations: Option<MigrationsMode>,
}

/// The topics that a plugin can use, and its consumer group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaGrant {
    /// Topics that the plugin may subscribe to.
    pub read: Vec<String>,
    /// Topics that the plugin may publish to.
    pub write: Vec<String>,
    /// Topics of `write` to which nobody else writes than the plugins of this database. The host hands their
    /// records over to its other plugins when it sends them, without waiting for Kafka.
    pub sole_writer: Vec<String>,
    /// Consumer group. Default: the plugin's name.
    pub group: String,
    /// Where a partition without a stored offset starts.
    pub start: Start,
}

/// Where a partition without a stored offset starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
    /// At the committed offset of another group.
    Group(String),
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            other => match other.strip_prefix("group:") {
                Some(group) if !group.is_empty() => Ok(Self::Group(group.to_owned())),
                _ => Err(de::Error::custom(format!(
                    "start = {text:?} must be \"earliest\", \"latest\" or \"group:NAME\""
                ))),
            },
        }
    }
}

/// The HTTP routes that a plugin can serve.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpGrant {
    /// Each of the form `METHOD /path/{name}`.
    pub routes: Vec<String>,
    /// Bytes of a request body. A larger one is answered with status 413.
    pub body_bytes_max: usize,
}

impl Default for HttpGrant {
    fn default() -> Self {
        Self { routes: Vec::new(), body_bytes_max: 64 << 10 }
    }
}
