//! Settings of `run` and `dev`.

use std::path::PathBuf;

use serde::Deserialize;

/// What a host needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the Postgres server, of an account that may create databases and roles.
    pub postgres: String,
    /// Kafka bootstrap servers.
    pub kafka: String,
    /// Further librdkafka properties.
    pub kafka_properties: Vec<(String, String)>,
    /// Listener of the service routes.
    pub http: String,
    /// Listener of the host API.
    pub admin: String,
    /// Asked for as `Authorization: Bearer`; needed when `admin` is not on loopback.
    pub admin_token: Option<String>,
    /// Folder of components and policies.
    pub plugins: PathBuf,
    /// Folder of compiled components, made with mode 0700.
    pub cache: PathBuf,
    /// What to do with migrations.
    pub migrations: MigrationsMode,
    /// Whether a missing policy file is written from what the plugin asks for (`dev`), or refused.
    pub write_policies: bool,
    /// Partitions of topics that the host makes.
    pub topic_partitions: i32,
    /// Replication factor of topics that the host makes.
    pub topic_replication: i32,
}

/// What the host does with schema migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationsMode {
    /// Runs what is missing.
    #[default]
    Apply,
    /// Refuses to start when something is missing, and names it.
    Check,
    /// Takes the schema as it is.
    Off,
}
