//! The settings of `run` and `dev`. Options and environment variables override the file, which overrides the
//! defaults.

mod callers;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Deserializer};

pub use self::callers::CallerLimits;
use crate::log::LogFormat;

/// Default address of the service routes.
pub const HTTP_DEFAULT: &str = "127.0.0.1:7080";
/// Default address of the host API.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:7081";
/// Default partition count of topics that the host creates.
pub const TOPIC_PARTITIONS_DEFAULT: i32 = 6;
/// Default replication factor of topics that the host creates.
pub const TOPIC_REPLICATION_DEFAULT: i32 = 1;

/// The settings of a host, complete and checked.
#[derive(Clone)]
pub struct Config {
    /// `postgres://` URL of the server, with an account that may create databases and roles, unless they
    /// exist.
    pub postgres: String,
    /// File of that account's password, which is read again for each new connection.
    pub postgres_password_file: Option<PathBuf>,
    /// Kafka bootstrap servers, `host:port` separated by commas.
    pub kafka: String,
    /// Additional librdkafka properties, (name, value).
    pub kafka_properties: Vec<(String, String)>,
    /// Address of the service routes, `host:port`.
    pub http: String,
    /// Address of the host API, `host:port`.
    pub admin: String,
    /// Token that callers of the host API send as `Authorization: Bearer`. Required when `admin` is not
    /// loopback.
    pub admin_token: Option<String>,
    /// Folder of components and policy files.
    pub plugins: PathBuf,
    /// Folder of compiled components, created with mode 0700.
    pub cache: PathBuf,
    /// What the host does with schema migrations.
    pub migrations: MigrationsMode,
    /// True in `dev`: writes a missing policy file from the manifest, and only logs rights that a plugin could
    /// misuse. Else a plugin is rejected in both cases.
    pub development: bool,
    /// Partition count of topics that the host creates.
    pub topic_partitions: i32,
    /// Replication factor of topics that the host creates.
    pub topic_replication: i32,
    /// Limits of HTTP callers.
    pub callers: CallerLimits,
}

/// Leaves out what may contain a password: the Postgres URL, the Kafka properties, the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("kafka", &self.kafka)
            .field("http", &self.http)
            .field("admin", &self.admin)
            .field("plugins", &self.plugins)
            .field("migrations", &self.migrations)
            .finish_non_exhaustive()
    }
}

/// What the host does with schema migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MigrationsMode {
    /// Applies missing migrations.
    #[default]
    Apply,
    /// Refuses to start when a migration is missing, and names it.
    Check,
    /// Does not check the schema.
    Off,
}

/// librdkafka properties: `name=value,name=value` on the command line, a table in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaProperties(pub Vec<(String, String)>);

impl FromStr for KafkaProperties {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let property = |part: &str| match part.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!(
                "`{part}` must have the form name=value; put a value with a comma into the file of --config"
            )),
        };
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(property)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for KafkaProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Self(table.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}

/// The settings of `run`. Each is an option, an environment variable, and a field of the file (with `_` for
/// `-`).
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Postgres server, with an account that may create databases and roles unless they exist
    #[arg(long, env = "SAGA_HOST_POSTGRES", hide_env_values = true, value_name = "URL")]
    postgres: Option<String>,
    /// File of the password of that account, read again for each connection
    #[arg(long, env = "SAGA_HOST_POSTGRES_PASSWORD_FILE", value_name = "FILE")]
    postgres_password_file: Option<PathBuf>,
    /// Kafka bootstrap servers
    #[arg(long, env = "SAGA_HOST_KAFKA", value_name = "HOST:PORT,...")]
    kafka: Option<String>,
    /// Additional librdkafka properties, such as session timeout, TLS, SASL
    #[arg(long, env = "SAGA_HOST_KAFKA_PROPERTIES", hide_env_values = true, value_name = "NAME=VALUE,...")]
    kafka_properties: Option<KafkaProperties>,
    /// Address of the service routes [default: 127.0.0.1:7080]
    #[arg(long, env = "SAGA_HOST_HTTP", value_name = "ADDR")]
    http: Option<String>,
    /// Address of the host API [default: 127.0.0.1:7081]
    #[arg(long, env = "SAGA_HOST_ADMIN", value_name = "ADDR")]
    admin: Option<String>,
    /// Token of the host API, required off loopback; prefer the environment variable, other users can read
    /// command lines
    #[arg(long, env = "SAGA_HOST_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Folder of the plugins [default: plugins]
    #[arg(long, env = "SAGA_HOST_PLUGINS", value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Folder of compiled plugins, readable by this user only [default: .saga-host/cache]
    #[arg(long, env = "SAGA_HOST_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Schema migrations [default: check]
    #[arg(long, env = "SAGA_HOST_MIGRATIONS", value_enum)]
    migrations: Option<MigrationsMode>,
    /// Partitions of topics that the host creates [default: 6]
    #[arg(long, env = "SAGA_HOST_TOPIC_PARTITIONS", value_name = "N")]
    topic_partitions: Option<i32>,
    /// Replication factor of topics that the host creates [default: 1]
    #[arg(long, env = "SAGA_HOST_TOPIC_REPLICATION", value_name = "N")]
    topic_replication: Option<i32>,
    /// Open connections of the service routes; further callers wait [default: 2048]
    #[arg(long, env = "SAGA_HOST_HTTP_CONNECTIONS_MAX", value_name = "N")]
    http_connections_max: Option<u32>,
    /// Open connections of the host API; further callers wait [default: 64]
    #[arg(long, env = "SAGA_HOST_ADMIN_CONNECTIONS_MAX", value_name = "N")]
    admin_connections_max: Option<u32>,
    /// Seconds in which a new connection must have sent the header of its first request [default: 10]
    #[arg(long, env = "SAGA_HOST_HEADER_S_MAX", value_name = "SECONDS")]
    header_s_max: Option<u32>,
    /// Seconds in which the body of a request to a service route must arrive [default: 10]
    #[arg(long, env = "SAGA_HOST_BODY_S_MAX", value_name = "SECONDS")]
    body_s_max: Option<u32>,
    /// Seconds in which a component must arrive at the host API [default: 120]
    #[arg(long, env = "SAGA_HOST_COMPONENT_S_MAX", value_name = "SECONDS")]
    component_s_max: Option<u32>,
    /// Seconds that a connection stays open without a request in progress [default: 60]
    #[arg(long, env = "SAGA_HOST_IDLE_S_MAX", value_name = "SECONDS")]
    idle_s_max: Option<u32>,
    /// Requests at a time in one HTTP/2 connection [default: 256]
    #[arg(long, env = "SAGA_HOST_STREAMS_MAX", value_name = "N")]
    streams_max: Option<u32>,
    /// Worker threads [default: one per core]
    #[arg(long, env = "SAGA_HOST_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Format of log lines [default: text]
    #[arg(long, env = "SAGA_HOST_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, or a field is unknown or has another type. The message names the line and
    /// field.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// An error names line and field, but never shows the line, which may contain a password.
    fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let number = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            let field =
                text.lines().nth(number).and_then(|line| line.split('=').next()).unwrap_or_default().trim();
            anyhow::anyhow!("line {}, {field}: {}", number + 1, error.message())
        })
    }

    /// Takes each setting that is missing here from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            postgres: self.postgres.or(other.postgres),
            postgres_password_file: self.postgres_password_file.or(other.postgres_password_file),
            kafka: self.kafka.or(other.kafka),
            kafka_properties: self.kafka_properties.or(other.kafka_properties),
            http: self.http.or(other.http),
            admin: self.admin.or(other.admin),
            admin_token: self.admin_token.or(other.admin_token),
            plugins: self.plugins.or(other.plugins),
            cache: self.cache.or(other.cache),
            migrations: self.migrations.or(other.migrations),
            topic_partitions: self.topic_partitions.or(other.topic_partitions),
            topic_replication: self.topic_replication.or(other.topic_replication),
            http_connections_max: self.http_connections_max.or(other.http_connections_max),
            admin_connections_max: self.admin_connections_max.or(other.admin_connections_max),
            header_s_max: self.header_s_max.or(other.header_s_max),
            body_s_max: self.body_s_max.or(other.body_s_max),
            component_s_max: self.component_s_max.or(other.component_s_max),
            idle_s_max: self.idle_s_max.or(other.idle_s_max),
            streams_max: self.streams_max.or(other.streams_max),
            workers: self.workers.or(other.workers),
            log_format: self.log_format.or(other.log_format),
        }
    }

    /// Fills in the defaults of `run`.
    ///
    /// # Errors
    /// A setting is missing or invalid. The message names it.
    pub fn config(self) -> anyhow::Result<Config> {
        let callers = self.callers();
        callers.check()?;
        let config = Config {
            postgres: self.postgres.context(
                "Postgres is not configured; set SAGA_HOST_POSTGRES=postgres://user:password@host/postgres",
            )?,
            postgres_password_file: self.postgres_password_file,
            kafka: self.kafka.context("Kafka is not configured; set SAGA_HOST_KAFKA=host:9092")?,
            kafka_properties: self.kafka_properties.unwrap_or_default().0,
            http: self.http.unwrap_or_else(|| HTTP_DEFAULT.to_owned()),
            admin: self.admin.unwrap_or_else(|| ADMIN_DEFAULT.to_owned()),
            admin_token: self.admin_token.filter(|token| !token.is_empty()),
            plugins: self.plugins.unwrap_or_else(|| "plugins".into()),
            cache: self.cache.unwrap_or_else(|| ".saga-host/cache".into()),
            migrations: self.migrations.unwrap_or(MigrationsMode::Check),
            development: false,
            topic_partitions: self.topic_partitions.unwrap_or(TOPIC_PARTITIONS_DEFAULT),
            topic_replication: self.topic_replication.unwrap_or(TOPIC_REPLICATION_DEFAULT),
            callers,
        };
        ensure!(
            config.topic_partitions > 0,
            "topic_partitions = {} must be at least 1",
            config.topic_partitions
        );
        ensure!(
            config.topic_replication > 0,
            "topic_replication = {} must be at least 1",
            config.topic_replication
        );
        Ok(config)
    }

    fn callers(&self) -> CallerLimits {
        let default = CallerLimits::default();
        CallerLimits {
            http_connections_max: self.http_connections_max.unwrap_or(default.http_connections_max),
            admin_connections_max: self.admin_connections_max.unwrap_or(default.admin_connections_max),
            header_s_max: self.header_s_max.unwrap_or(default.header_s_max),
            body_s_max: self.body_s_max.unwrap_or(default.body_s_max),
            component_s_max: self.component_s_max.unwrap_or(default.component_s_max),
            idle_s_max: self.idle_s_max.unwrap_or(default.idle_s_max),
            streams_max: self.streams_max.unwrap_or(default.streams_max),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{KafkaProperties, MigrationsMode, Settings};

    fn file(text: &str) -> anyhow::Result<Settings> {
        Settings::parse(text)
    }

    #[test]
    fn an_option_overrides_the_file_and_the_file_the_default() {
        let options = Settings { http: Some("0.0.0.0:80".into()), ..Settings::default() };
        let from_file = file(
            "postgres = 'postgres://u@h/d'\nkafka = 'k:9092'\nhttp = '127.0.0.1:1'\n\
             migrations = 'apply'\nworkers = 3\n\
             [kafka_properties]\n'session.timeout.ms' = 6000\n'security.protocol' = 'ssl'",
        );
        let settings = options.or(from_file.unwrap());
        assert_eq!(settings.workers, Some(3));
        let config = settings.config().unwrap();
        assert_eq!((config.http.as_str(), config.admin.as_str()), ("0.0.0.0:80", "127.0.0.1:7081"));
        assert_eq!(config.migrations, MigrationsMode::Apply);
        let mut properties = config.kafka_properties.clone();
        properties.sort();
        assert_eq!(properties[0], ("security.protocol".to_owned(), "ssl".to_owned()));
        assert_eq!(properties[1], ("session.timeout.ms".to_owned(), "6000".to_owned()));
        assert!(!format!("{config:?}").contains("postgres://"));
    }

    #[test]
    fn errors_name_the_field() {
        let unknown = file("kafka = 'k'\npostgress = 'p:secret@h'").unwrap_err().to_string();
        assert!(
            unknown.starts_with("line 2, postgress: unknown field") && !unknown.contains("secret"),
            "{unknown}"
        );
        assert!(file("topic_partitions = 'x'").unwrap_err().to_string().contains("topic_partitions"));
        let missing = file("kafka = 'k'").unwrap().config().unwrap_err();
        assert!(missing.to_string().contains("SAGA_HOST_POSTGRES"), "{missing}");
        let zero = file("kafka = 'k'\npostgres = 'p'\ntopic_partitions = 0").unwrap().config().unwrap_err();
        assert!(zero.to_string().contains("topic_partitions"), "{zero}");
        let zero = file("kafka = 'k'\npostgres = 'p'\nidle_s_max = 0").unwrap().config().unwrap_err();
        assert_eq!(zero.to_string(), "idle_s_max = 0 must be at least 1");
    }

    #[test]
    fn properties_are_separated_by_commas() {
        let properties: KafkaProperties = "session.timeout.ms=6000, sasl.password=a=b,".parse().unwrap();
        assert_eq!(
            properties.0,
            [("session.timeout.ms", "6000"), ("sasl.password", "a=b")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        assert!("ssl.cipher.suites".parse::<KafkaProperties>().is_err());
    }
}
