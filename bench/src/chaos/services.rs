//! The plugins of a system with their databases and topics, as their policies name them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use saga_testkit::database::Databases;
use saga_testkit::topic::groups::Groups;

/// One plugin.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) plugin: String,
    pub(super) database: String,
    pub(super) reads: Vec<String>,
    writes: Vec<String>,
}

/// All plugins of a system.
#[derive(Debug, Clone)]
pub(super) struct Services(pub(super) Vec<Service>);

#[derive(Deserialize)]
struct Policy {
    name: String,
    database: Option<Database>,
    #[serde(default)]
    kafka: Kafka,
}

#[derive(Deserialize)]
struct Database {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Kafka {
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
}

impl Services {
    /// Reads the policies of these plugins from a folder.
    ///
    /// # Errors
    /// A policy is missing or malformed.
    pub(super) fn read(folder: &Path, plugins: &[String]) -> Result<Self> {
        plugins.iter().map(|plugin| read(folder, plugin)).collect::<Result<_>>().map(Self)
    }

    /// The plugin of this name.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn of(&self, plugin: &str) -> Result<&Service> {
        let found = self.0.iter().find(|service| service.plugin == plugin);
        found.with_context(|| format!("the system has no plugin {plugin}"))
    }

    /// The databases, each once.
    pub(super) fn databases(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|service| service.database.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The topics that plugins read or write, each once.
    pub(super) fn topics(&self) -> Vec<String> {
        let both = |service: &Service| [service.reads.clone(), service.writes.clone()].concat();
        let mut topics: Vec<String> = self.0.iter().flat_map(both).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Connections to all databases.
    pub(super) fn connect(&self, postgres: &str) -> Result<Databases> {
        Databases::named(postgres, self.databases().into_iter())
    }

    /// The consumer groups.
    pub(super) fn groups(&self, kafka: &str) -> Result<Groups> {
        Groups::of(kafka, self.0.iter().map(|service| (service.plugin.as_str(), &service.reads[..])))
    }
}

fn read(folder: &Path, plugin: &str) -> Result<Service> {
    let path = folder.join(format!("{plugin}.toml"));
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{}; build the plugins, or name their folder with --plugins", path.display())
    })?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Service> {
    let Policy { name, database, kafka } = toml::from_str(text)?;
    let database = database.and_then(|database| database.name).unwrap_or_else(|| name.clone());
    Ok(Service { plugin: name, database, reads: kafka.read, writes: kafka.write })
}

#[cfg(test)]
mod tests {
    use super::{Services, parse};

    #[test]
    fn databases_and_topics_are_those_of_the_policies() {
        let first = "name = 'a'\n[database]\nname = 'd'\n[kafka]\nread = ['t']\nwrite = ['u']\n[http]\nx = 1";
        let services =
            Services(vec![parse(first).unwrap(), parse("name = 'b'\nkafka.read = ['u']").unwrap()]);
        assert_eq!(services.databases(), ["b", "d"]);
        assert_eq!(services.topics(), ["t", "u"]);
        assert_eq!(services.of("b").unwrap().reads, ["u"]);
        assert!(services.of("c").is_err());
    }
}
