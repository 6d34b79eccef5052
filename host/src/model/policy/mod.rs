//! The policy file of a plugin: what the operator grants it. A plugin can do what both its manifest asks for
//! and its policy grants.
//!
//! Only `name` and `[database] name` are required. Everything else has the default written here.

mod grants;
mod limits;
mod rollout;
mod suggested;

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) use self::limits::MEMORY_MIB_MAX;
pub use self::{
    grants::{DatabaseGrant, HttpGrant, KafkaGrant, Start},
    limits::Limits,
    rollout::{InFlight, RolloutPolicy},
};
use super::{plugin_name::PluginName, rejection::Rejection};

/// The content of a policy file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The plugin's name: the file stem of its component and of this file.
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
    pub rollout: RolloutPolicy,
    /// `[config]`: the values that `context.config` returns.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// SHA-256 of `text`, lower-case hex.
    #[serde(skip)]
    pub digest: String,
    /// The file's text.
    #[serde(skip)]
    pub text: String,
}

impl Policy {
    /// Reads the text of `<file_stem>.toml`.
    ///
    /// # Errors
    /// One sentence that names the file, the line or field, and what is expected there.
    pub fn parse(file_stem: &str, text: &str) -> Result<Self, Rejection> {
        let reject = |what: String| Rejection(format!("{file_stem}.toml: {what}"));
        let mut policy: Self = toml::from_str(text).map_err(|error| reject(with_line(&error, text)))?;
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
            return Err(format!("name = {:?} must be the name of the file, {file_stem:?}", self.name));
        }
        PluginName::parse(&self.name).map_err(|error| error.to_string())?;
        if self.database.name.is_empty() {
            return Err("[database] name is empty".to_owned());
        }
        let wrong = self.http.routes.iter().find(|route| {
            route.split_once(' ').is_none_or(|(method, path)| {
                !path.starts_with('/') || method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase())
            })
        });
        if let Some(route) = wrong {
            return Err(format!("[http] routes: {route:?} must have the form \"POST /orders/{{id}}\""));
        }
        let not_written = self.kafka.sole_writer.iter().find(|topic| !self.kafka.write.contains(topic));
        if let Some(topic) = not_written {
            return Err(format!("[kafka] sole_writer: {topic:?} is not in write"));
        }
        self.limits.check()
    }
}

/// `line 3: unknown field ..., expected one of ...`
fn with_line(error: &toml::de::Error, text: &str) -> String {
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

    #[test]
    fn a_minimal_policy_has_every_default() {
        let policy =
            Policy::parse("order-query", "name = \"order-query\"\n[database]\nname = \"q\"\n").unwrap();
        assert_eq!(policy.database.role, "plugin_order_query");
        assert_eq!(policy.kafka.group, "order-query");
        assert_eq!(policy.kafka.start, Start::Earliest);
        assert_eq!((policy.limits.statements_max, policy.limits.queue_bytes_max), (32, 64 << 20));
        assert_eq!((policy.http.body_bytes_max, policy.digest.len()), (65_536, 64));
    }

    #[test]
    fn an_error_names_the_file_and_the_line_or_field() {
        let head = "name = \"p\"\n[database]\nname = \"d\"\n";
        for (tail, expected) in [
            ("role_name = \"x\"", "p.toml: line 4: unknown field `role_name`, expected one of"),
            ("[limits]\nmemory_mib = 3", "p.toml: line 5: unknown field `memory_mib`, expected one of"),
            ("[limits]\nguest_ms_max = 0", "p.toml: [limits] guest_ms_max = 0: must be between 10 and 60000"),
            ("[limits]\nrows_max = \"x\"", "p.toml: line 5: invalid type: string \"x\", expected u32"),
            ("[kafka]\nstart = \"last\"", "p.toml: line 5: start = \"last\" must be"),
            ("[http]\nroutes = [\"orders\"]", "p.toml: [http] routes: \"orders\" must have the form"),
        ] {
            let message = Policy::parse("p", &format!("{head}{tail}\n")).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let message = Policy::parse("q", head).unwrap_err().to_string();
        assert_eq!(message, "q.toml: name = \"p\" must be the name of the file, \"q\"");
    }
}
