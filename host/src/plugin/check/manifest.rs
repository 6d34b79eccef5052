//! Checks of a manifest: by itself, and against the policy.

use std::collections::HashSet;

use super::{Handlers, WIT_VERSION};
use crate::model::{
    manifest::{Correlation, Manifest},
    policy::Policy,
};

const GATHER_MS_MAX: u32 = 1_000;

/// Checks a manifest by itself, apart from any policy. `extensions` are those that the plugin requires.
pub(in crate::plugin) fn manifest(
    manifest: &Manifest,
    handlers: Handlers,
    extensions: &[String],
) -> Result<(), String> {
    if let Some(extension) = extensions.first() {
        return Err(format!(
            "requires the extension {extension:?}, which this host (saga:plugin {WIT_VERSION}) does not \
             provide; upgrade the host"
        ));
    }
    if manifest.gather_ms > GATHER_MS_MAX {
        return Err(format!("gather-ms is {}, more than {GATHER_MS_MAX}", manifest.gather_ms));
    }
    let needs_deliveries = !manifest.subscriptions.is_empty() || !manifest.sagas.is_empty();
    if needs_deliveries && !handlers.deliveries {
        return Err("has subscriptions or sagas, but exports no saga:plugin/deliveries".to_owned());
    }
    if !handlers.requests && !manifest.routes.is_empty() {
        return Err("has routes, but exports no saga:plugin/requests".to_owned());
    }
    unique("the subscription to", manifest.subscriptions.iter().map(|s| s.topic.clone()))?;
    unique("the route", manifest.routes.iter().map(|r| format!("{} {}", r.method, shape(&r.path))))?;
    unique("the topic", manifest.publishes.iter().cloned())?;
    unique("the saga type", manifest.sagas.iter().cloned())?;
    unique("the migration", manifest.migrations.iter().map(|m| m.name.clone()))?;
    for route in &manifest.routes {
        if !route.path.starts_with('/')
            || route.method.is_empty()
            || route.method != route.method.to_ascii_uppercase()
        {
            return Err(format!(
                "the route {} {} must have the form POST /orders/{{id}}",
                route.method, route.path
            ));
        }
    }
    manifest.subscriptions.iter().try_for_each(|subscription| correlation(&subscription.correlation))
}

fn correlation(correlation: &Correlation) -> Result<(), String> {
    match correlation {
        Correlation::Json(pointer) if !pointer.starts_with('/') => {
            Err(format!("the correlation {pointer:?} must be a JSON pointer such as /orderId"))
        }
        Correlation::Header(name) if name.is_empty() || *name != name.to_ascii_lowercase() => {
            Err(format!("the correlation header {name:?} must be in lower case"))
        }
        _ => Ok(()),
    }
}

/// Blanks the names in braces: paths that differ in them only are the same route.
fn shape(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn unique(what: &str, names: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(format!("{what} has an empty name in describe()"));
        }
        if !seen.insert(name.clone()) {
            return Err(format!("{what} {name} is listed twice in describe()"));
        }
    }
    Ok(())
}

/// Checks that the policy grants everything that the manifest asks for. Returns one warning for each grant
/// that is not asked for.
pub(in crate::plugin) fn grants(
    stem: &str,
    manifest: &Manifest,
    policy: &Policy,
) -> Result<Vec<String>, String> {
    if manifest.name != stem {
        return Err(format!(
            "describe() gives the name {:?}; rename the file to {}.wasm",
            manifest.name, manifest.name
        ));
    }
    let read: Vec<String> = manifest.subscriptions.iter().map(|s| s.topic.clone()).collect();
    let routes: Vec<String> = manifest.routes.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    let mut unused = Vec::new();
    for (verb, asked, granted, section, remove) in [
        ("subscribes to", &read, &policy.kafka.read, "[kafka] read", "remove the subscription"),
        (
            "publishes to",
            &manifest.publishes,
            &policy.kafka.write,
            "[kafka] write",
            "remove it from what describe() publishes",
        ),
        ("serves", &routes, &policy.http.routes, "[http] routes", "remove the route"),
    ] {
        if let Some(beyond) = asked.iter().find(|name| !granted.contains(name)) {
            return Err(format!(
                "{verb} {beyond}, which {stem}.toml does not grant. Add it to {section}, or {remove}."
            ));
        }
        let idle = granted.iter().filter(|name| !asked.contains(name));
        unused.extend(idle.map(|name| {
            format!("{stem}.toml grants {name} in {section}, but the plugin does not ask for it")
        }));
    }
    Ok(unused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Handlers, grants, manifest};
    use crate::model::{
        manifest::{Correlation, Manifest, Route, Subscription},
        policy::Policy,
    };

    fn asked() -> Manifest {
        Manifest {
            name: "p".to_owned(),
            subscriptions: vec![Subscription {
                topic: "in".to_owned(),
                correlation: Correlation::Json("/id".to_owned()),
                foreign_ids: false,
            }],
            routes: vec![Route { method: "POST".to_owned(), path: "/a/{id}".to_owned(), read: false }],
            publishes: vec!["out".to_owned()],
            ..Manifest::default()
        }
    }

    #[test]
    fn a_manifest_must_be_consistent() {
        let both = Handlers { deliveries: true, requests: true };
        assert_eq!(manifest(&asked(), both, &[]), Ok(()));
        let error_of = |change: fn(&mut Manifest)| {
            let mut changed = asked();
            change(&mut changed);
            manifest(&changed, both, &[]).unwrap_err()
        };
        assert_eq!(
            error_of(|m| m.publishes.push("out".into())),
            "the topic out is listed twice in describe()"
        );
        let route = error_of(|m| {
            let mut same = m.routes.first().cloned().unwrap();
            same.path = "/a/{other}".to_owned();
            m.routes.push(same);
        });
        assert_eq!(route, "the route POST /a/{} is listed twice in describe()");
        let pointer = error_of(|m| {
            m.subscriptions.iter_mut().for_each(|s| s.correlation = Correlation::Json("id".into()))
        });
        assert_eq!(pointer, "the correlation \"id\" must be a JSON pointer such as /orderId");
        assert!(manifest(&asked(), both, &["mail".to_owned()]).is_err());
        assert!(manifest(&asked(), Handlers { deliveries: false, requests: true }, &[]).is_err());
    }

    #[test]
    fn the_policy_must_grant_what_is_asked_for() {
        let policy = |tail: &str| {
            Policy::parse("p", &format!("name = \"p\"\n[database]\nname = \"d\"\n{tail}")).unwrap()
        };
        let all =
            "[kafka]\nread = [\"in\"]\nwrite = [\"out\", \"more\"]\n[http]\nroutes = [\"POST /a/{id}\"]\n";
        assert_eq!(
            grants("p", &asked(), &policy(all)),
            Ok(vec!["p.toml grants more in [kafka] write, but the plugin does not ask for it".to_owned()])
        );
        assert_eq!(
            grants("p", &asked(), &policy("")).unwrap_err(),
            "subscribes to in, which p.toml does not grant. Add it to [kafka] read, or remove the \
             subscription."
        );
        assert!(grants("q", &asked(), &policy(all)).unwrap_err().contains("p.wasm"));
    }
}
