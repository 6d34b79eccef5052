//! Writes the policy that a plugin needs, for a person to review.

use std::fmt::Write;

use super::Policy;
use crate::model::manifest::Manifest;

impl Policy {
    /// The text of a policy that grants what the manifest asks for and nothing else, in a database with the
    /// plugin's name. A person reviews the text and owns it from then on.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Policy;
    use crate::model::manifest::{Correlation, Manifest, Route, Subscription};

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
