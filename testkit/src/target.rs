//! The addresses of the system under test, from `dev.json`, which `saga-host dev` and `saga-host stack`
//! write.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Process ids of what a development stack started.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Pids {
    /// The host, absent under `saga-host stack`.
    pub host: Option<u32>,
    /// The Kafka broker.
    pub kafka: Option<u32>,
    /// The postmaster.
    pub postgres: Option<u32>,
}

/// Addresses of one running system.
#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    /// `host:port` of the service routes.
    #[serde(default)]
    pub http: Option<String>,
    /// `host:port` of the host API.
    #[serde(default)]
    pub admin: Option<String>,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// URL of the Postgres server, with an account that may read every service's database.
    pub postgres: String,
    /// Processes of the system, to find them in `/proc`.
    #[serde(default)]
    pub pids: Pids,
    /// Further hosts on the same Kafka and Postgres.
    #[serde(skip)]
    pub more: Vec<Further>,
}

/// A further host on the same Kafka and Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// `host:port` of its service routes.
    pub http: String,
    /// `host:port` of its host API.
    pub admin: String,
    /// Its process.
    pub pid: Option<u32>,
}

impl Target {
    /// Reads one `dev.json`.
    ///
    /// # Errors
    /// The file is missing, or lacks `kafka` or `postgres`.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!("no {}; start `saga-host dev`, or give its addresses as options", file.display())
        })?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut target: Self = serde_json::from_str(text).context("not the dev.json of a saga-host")?;
        target.http = target.http.map(|address| bare(&address));
        target.admin = target.admin.map(|address| bare(&address));
        Ok(target)
    }

    /// Address of the service routes.
    ///
    /// # Errors
    /// None is known.
    pub fn http(&self) -> Result<&str> {
        self.http.as_deref().context("no address of the service routes; give --http HOST:PORT")
    }

    /// Addresses of the service routes of all hosts.
    ///
    /// # Errors
    /// None is known.
    pub fn https(&self) -> Result<Vec<&str>> {
        let first = std::iter::once(self.http()?);
        Ok(first.chain(self.more.iter().map(|host| host.http.as_str())).collect())
    }

    /// Addresses of the host API of all hosts.
    ///
    /// # Errors
    /// None is known.
    pub fn admins(&self) -> Result<Vec<&str>> {
        let first = std::iter::once(self.admin()?);
        Ok(first.chain(self.more.iter().map(|host| host.admin.as_str())).collect())
    }

    /// Address of the host API.
    ///
    /// # Errors
    /// None is known.
    pub fn admin(&self) -> Result<&str> {
        self.admin.as_deref().context("no address of the host API; give --admin HOST:PORT")
    }
}

fn bare(address: &str) -> String {
    address.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// The options by which a command finds the system.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetOptions {
    /// The file with the addresses
    #[arg(long, default_value = ".saga-host/dev.json")]
    pub dev_json: PathBuf,
    /// Service routes, instead of the file's
    #[arg(long)]
    pub http: Option<String>,
    /// Host API, instead of the file's
    #[arg(long)]
    pub admin: Option<String>,
    /// Kafka bootstrap servers, instead of the file's
    #[arg(long)]
    pub kafka: Option<String>,
    /// Postgres URL, instead of the file's
    #[arg(long)]
    pub postgres: Option<String>,
}

impl TargetOptions {
    /// The data folder: that of `dev.json`, when the file is needed.
    #[must_use]
    pub fn data_folder(&self) -> Option<&Path> {
        if self.kafka.is_some() && self.postgres.is_some() { None } else { self.dev_json.parent() }
    }

    /// The addresses; options take precedence. The file is not needed when Kafka and Postgres are given.
    ///
    /// # Errors
    /// The file is needed and cannot be read.
    pub fn target(&self) -> Result<Target> {
        let mut target = match (&self.kafka, &self.postgres) {
            (Some(kafka), Some(postgres)) => Target {
                http: None,
                admin: None,
                kafka: kafka.clone(),
                postgres: postgres.clone(),
                pids: Pids::default(),
                more: Vec::new(),
            },
            _ => Target::read(&self.dev_json)?,
        };
        target.http = self.http.as_deref().map(bare).or(target.http);
        target.admin = self.admin.as_deref().map(bare).or(target.admin);
        if let Some(kafka) = &self.kafka {
            target.kafka.clone_from(kafka);
        }
        if let Some(postgres) = &self.postgres {
            target.postgres.clone_from(postgres);
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn reads_the_file_of_a_stack_and_of_a_host() {
        let stack = Target::parse(
            r#"{"kafka":"127.0.0.1:9092","postgres":"postgres://a@/postgres?host=/s","pids":{"kafka":7}}"#,
        )
        .unwrap();
        assert!(stack.http().is_err());
        assert_eq!((stack.pids.host, stack.pids.kafka), (None, Some(7)));
        let host = Target::parse(
            r#"{"http":"http://127.0.0.1:7080/","admin":"127.0.0.1:7081",
                "kafka":"k","postgres":"p","pids":{}}"#,
        )
        .unwrap();
        assert_eq!(host.http().unwrap(), "127.0.0.1:7080");
        assert_eq!(host.admin().unwrap(), "127.0.0.1:7081");
    }

    #[test]
    fn refuses_a_file_without_addresses() {
        assert!(Target::parse("{}").is_err());
    }
}
