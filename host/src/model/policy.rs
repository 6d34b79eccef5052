//! The operator's policy file beside a component: the ceiling of what the plugin may ask for.
//!
//! Only `[database] name` and `name` must be there; everything else has the default written here.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

use super::{manifest::Manifest, rejection::Rejection};
use crate::config::MigrationsMode;

/// With `plugin_` before it, a name must fit into an identifier of Postgres.
const NAME_CHARS_MAX: usize = 56;

/// A plugin's limits and grants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The plugin: file stem of the component and of this file.
    pub name: String,
    /// `[database]`
    pub database: DatabaseGrant,
    /// `[kafka]`
    #[serde(default)]
    pub kafka: KafkaGrant,
    /// `[http]`
    #[serde(default)]
    pub http: HttpGrant,
    /// `[limits]`
    #[serde(default)]
    pub limits: Limits,
    /// `[rollout]`
    #[serde(default)]
    pub rollout: Rollout,
    /// `[config]`: what `context.config` answers.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// SHA-256 of the file's text, lower-case hex.
    #[serde(skip)]
    pub digest: String,
    /// The file's text.
    #[serde(skip)]
    pub text: String,
}

/// The plugin's database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseGrant {
    /// Name.
    pub name: String,
    /// Restricted role; default `plugin_<name>`, `-` as `_`.
    #[serde(default)]
    pub role: String,
    /// None: as the host is told.
    #[serde(default)]
    pub migrations: Option<MigrationsMode>,
}

/// Topics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
    /// Where another group has committed.
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
                    "start = {text:?} is none of \"earliest\", \"latest\", \"group:NAME\""
                ))),
            },
        }
    }
}

/// Routes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpGrant {
    /// `METHOD /path/{name}`
    pub routes: Vec<String>,
    /// A larger body is answered by 413.
    pub body_bytes_max: usize,
}

impl Default for HttpGrant {
    fn default() -> Self {
        Self { routes: Vec::new(), body_bytes_max: 64 << 10 }
    }
}

/// Limits of one plugin, each with its default.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib_max: 64,
            guest_ms_max: 200,
            unit_ms_max: 2_000,
            batch_deliveries_max: 512,
            statements_max: 32,
            rows_max: 10_000,
            result_bytes_max: 8 << 20,
            call_bytes_max: 16 << 20,
            publish_messages_max: 4_096,
            queue_bytes_max: 64 << 20,
            log_lines_max: 100,
            attempts_max: 8,
        }
    }
}

/// What becomes of sagas in flight when another version is activated.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum InFlight {
    /// They end on the version that began them.
    #[default]
    Pin,
    /// The active version handles them.
    Move,
}

/// How a new version comes in, and when it is taken away again.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// What becomes of sagas in flight.
    pub in_flight: InFlight,
    /// A version that drains for longer is reported.
    pub drain_s_max: u32,
    /// Deliveries or requests that fail alone, one after the other, before the version before is put back; 0
    /// never does.
    pub failures_in_a_row_max: u32,
    /// So long after its activation; a version that has proved itself stays.
    pub probation_s: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { in_flight: InFlight::Pin, drain_s_max: 86_400, failures_in_a_row_max: 5, probation_s: 600 }
    }
}

impl Limits {
    /// The memory of one instance in bytes.
    #[must_use]
    pub fn memory_bytes_max(&self) -> usize {
        (self.memory_mib_max as usize) << 20
    }

    /// The first that is outside of what the host can do.
    fn check(&self) -> Result<(), String> {
        let ranges = [
            (
                "memory_mib_max",
                self.memory_mib_max as usize,
                1,
                crate::plugin::engine::MEMORY_MIB_MAX as usize,
            ),
            ("guest_ms_max", self.guest_ms_max as usize, 10, 60_000),
            ("unit_ms_max", self.unit_ms_max as usize, 10, 60_000),
            ("batch_deliveries_max", self.batch_deliveries_max as usize, 1, 65_536),
            ("statements_max", self.statements_max as usize, 0, 100_000),
            ("rows_max", self.rows_max as usize, 1, 10_000_000),
            ("result_bytes_max", self.result_bytes_max, 1 << 10, 1 << 30),
            ("call_bytes_max", self.call_bytes_max, 1 << 10, 1 << 30),
            ("publish_messages_max", self.publish_messages_max as usize, 0, 65_535),
            ("queue_bytes_max", self.queue_bytes_max, 1 << 10, 16 << 30),
            ("log_lines_max", self.log_lines_max as usize, 0, 1_000_000),
            ("attempts_max", self.attempts_max as usize, 1, 1_000),
        ];
        match ranges.iter().find(|(_, value, least, most)| value < least || value > most) {
            None => Ok(()),
            Some((name, value, least, most)) => {
                Err(format!("[limits] {name} = {value}: must be between {least} and {most}"))
            }
        }
    }
}

impl Policy {
    /// Reads the text of `<file_stem>.toml`.
    ///
    /// # Errors
    /// One sentence that names the file, the line or field, and what is expected there.
    pub fn parse(file_stem: &str, text: &str) -> Result<Self, Rejection> {
        let reject = |what: String| Rejection(format!("{file_stem}.toml: {what}"));
        let mut policy: Self = toml::from_str(text).map_err(|error| reject(describe(&error, text)))?;
        policy.check(file_stem).map_err(reject)?;
        policy.digest = hex::encode(Sha256::digest(text.as_bytes()));
        text.clone_into(&mut policy.text);
        if policy.database.role.is_empty() {
            policy.database.role = format!("plugin_{}", policy.name.replace('-', "_"));
        }
        if policy.kafka.group.is_empty() {
            policy.kafka.group.clone_from(&policy.name);
        }
        Ok(policy)
    }

    fn check(&self, file_stem: &str) -> Result<(), String> {
        if self.name != file_stem {
            return Err(format!("name = {:?}: must be the name of the file, {file_stem:?}", self.name));
        }
        let fits = self.name.len() <= NAME_CHARS_MAX
            && self.name.starts_with(|c: char| c.is_ascii_lowercase())
            && self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !fits {
            return Err(format!(
                "name = {:?}: lower-case letters, digits and `-`, at most {NAME_CHARS_MAX}, a letter first",
                self.name
            ));
        }
        if self.database.name.is_empty() {
            return Err("[database] name is empty".to_owned());
        }
        let wrong = self.http.routes.iter().find(|route| {
            route.split_once(' ').is_none_or(|(method, path)| {
                !path.starts_with('/') || method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase())
            })
        });
        if let Some(route) = wrong {
            return Err(format!("[http] routes: {route:?} is not of the form \"POST /orders/{{id}}\""));
        }
        self.limits.check()
    }

    /// The text of a policy that grants what the plugin asks for and nothing else, in a database
    /// of its own name. A person is shown it, and owns it from then on.
    #[must_use]
    pub fn suggested(manifest: &Manifest) -> String {
        let name = quoted(&manifest.name);
        let mut text = format!("name = {name}\n\n[database]\nname = {name}\n");
        let read: Vec<String> = manifest.subscriptions.iter().map(|s| s.topic.clone()).collect();
        if !read.is_empty() || !manifest.publishes.is_empty() {
            text.push_str("\n[kafka]\n");
            list(&mut text, "read", &read);
            list(&mut text, "write", &manifest.publishes);
        }
        let routes: Vec<String> =
            manifest.routes.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        if !routes.is_empty() {
            text.push_str("\n[http]\n");
            list(&mut text, "routes", &routes);
        }
        text
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(text: &mut String, name: &str, items: &[String]) {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    let _infallible = writeln!(text, "{name} = [{}]", items.join(", "));
}

/// `line 3: unknown field ..., expected one of ...`
fn describe(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().trim().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Policy, Start};
    use crate::model::manifest::{Correlation, Manifest, Route, Subscription};

    #[test]
    fn a_short_policy_has_every_default() {
        let policy =
            Policy::parse("order-query", "name = \"order-query\"\n[database]\nname = \"q\"\n").unwrap();
        assert_eq!(policy.database.role, "plugin_order_query");
        assert_eq!(policy.kafka.group, "order-query");
        assert_eq!(policy.kafka.start, Start::Earliest);
        assert_eq!((policy.limits.statements_max, policy.limits.queue_bytes_max), (32, 64 << 20));
        assert_eq!((policy.http.body_bytes_max, policy.digest.len()), (65_536, 64));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let head = "name = \"p\"\n[database]\nname = \"d\"\n";
        for (tail, expected) in [
            ("role_name = \"x\"", "p.toml: line 4: unknown field `role_name`, expected one of"),
            ("[limits]\nmemory_mib = 3", "p.toml: line 5: unknown field `memory_mib`, expected one of"),
            ("[limits]\nguest_ms_max = 0", "p.toml: [limits] guest_ms_max = 0: must be between 10 and 60000"),
            ("[limits]\nrows_max = \"x\"", "p.toml: line 5: invalid type: string \"x\", expected u32"),
            ("[kafka]\nstart = \"last\"", "p.toml: line 5: start = \"last\" is none of"),
            ("[http]\nroutes = [\"orders\"]", "p.toml: [http] routes: \"orders\" is not of the form"),
        ] {
            let message = Policy::parse("p", &format!("{head}{tail}\n")).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let message = Policy::parse("q", head).unwrap_err().to_string();
        assert_eq!(message, "q.toml: name = \"p\": must be the name of the file, \"q\"");
    }

    #[test]
    fn a_suggested_policy_grants_what_was_asked() {
        let manifest = Manifest {
            name: "p".to_owned(),
            subscriptions: vec![Subscription {
                topic: "in-topic".to_owned(),
                correlation: Correlation::RecordKey,
                foreign_ids: false,
            }],
            routes: vec![Route { method: "GET".to_owned(), path: "/a/{id}".to_owned(), read: true }],
            publishes: vec!["out-topic".to_owned()],
            ..Manifest::default()
        };
        let policy = Policy::parse("p", &Policy::suggested(&manifest)).unwrap();
        assert_eq!(policy.kafka.read, ["in-topic"]);
        assert_eq!(policy.kafka.write, ["out-topic"]);
        assert_eq!(policy.http.routes, ["GET /a/{id}"]);
        assert_eq!(policy.database.name, "p");
    }
}
