//! Whether a component may become a version: its form, what it imports and exports, and whether
//! what it asks for is within the operator's policy. Pure; each answer is one sentence with the
//! mend in it.

use std::collections::HashSet;

use crate::model::{
    manifest::{Correlation, Manifest},
    policy::Policy,
};

/// The version of the package `saga:plugin` in `wit/`.
pub(super) const WIT_VERSION: &str = "0.1.0";
/// Versions that agree in this part can do with each other.
const WIT_COMPATIBLE: &str = "0.1.";
/// Of `saga:plugin`.
const CAPABILITIES: [&str; 6] = ["types", "postgres", "kafka", "sagas", "timers", "context"];
/// What the standard libraries of guest languages import; nothing is granted through them.
const WASI_PACKAGES: [&str; 5] = ["wasi:cli", "wasi:io", "wasi:clocks", "wasi:random", "wasi:filesystem"];
const WASI_COMPATIBLE: &str = "0.2.";
const GATHER_MS_MAX: u32 = 1_000;

/// The first eight bytes: magic, version, and whether it is a module or a component.
const MAGIC: &[u8] = b"\0asm";
const COMPONENT: &[u8] = &[0x0d, 0x00, 0x01, 0x00];
const CORE_MODULE: &[u8] = &[0x01, 0x00, 0x00, 0x00];

/// Which of the exports that the host calls are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exported {
    pub(super) deliveries: bool,
    pub(super) requests: bool,
}

/// Looks at the first bytes.
pub(super) fn form(bytes: &[u8]) -> Result<(), String> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(MAGIC), Some(COMPONENT)) => Ok(()),
        (Some(MAGIC), Some(CORE_MODULE)) => {
            Err("a core module, not a component; build with --target wasm32-wasip2".to_owned())
        }
        (Some(MAGIC), Some(_)) => {
            Err("neither a component nor a core module that this host knows".to_owned())
        }
        _ if bytes.is_empty() => Err("an empty file; was it still being copied?".to_owned()),
        (Some(MAGIC), None) => Err("a file cut off after its first bytes; copy it again".to_owned()),
        _ => Err("not WebAssembly; build a component with --target wasm32-wasip2".to_owned()),
    }
}

/// Every import must be one that the host has.
pub(super) fn imports<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    for name in names {
        let (package, interface, version) = parts(name);
        match package {
            "saga:plugin" => {
                compatible(version)?;
                if !CAPABILITIES.contains(&interface) {
                    return Err(format!("imports {name}, which this host does not have"));
                }
            }
            _ if WASI_PACKAGES.contains(&package) && version.starts_with(WASI_COMPATIBLE) => {}
            _ => {
                return Err(format!(
                    "imports {name}: a plugin reaches the world through saga:plugin only; drop the dependency that \
                     needs it"
                ));
            }
        }
    }
    Ok(())
}

/// `manifest` and at least one of `deliveries` and `requests`; more is allowed.
pub(super) fn exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<Exported, String> {
    let (mut manifest, mut exported) = (false, Exported::default());
    for name in names {
        let (package, interface, version) = parts(name);
        if package != "saga:plugin" {
            continue;
        }
        compatible(version)?;
        match interface {
            "manifest" => manifest = true,
            "deliveries" => exported.deliveries = true,
            "requests" => exported.requests = true,
            _ => {}
        }
    }
    if !manifest {
        return Err("exports no saga:plugin/manifest: is it a plugin, and is the file whole?".to_owned());
    }
    if exported == Exported::default() {
        return Err(
            "exports neither saga:plugin/deliveries nor saga:plugin/requests: it handles nothing".to_owned()
        );
    }
    Ok(exported)
}

/// `saga:plugin/kafka@0.1.0` in its parts; those that are missing are empty.
fn parts(name: &str) -> (&str, &str, &str) {
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    (package, interface, version)
}

fn compatible(version: &str) -> Result<(), String> {
    if version.starts_with(WIT_COMPATIBLE) {
        return Ok(());
    }
    Err(format!("needs saga:plugin {version}; this host speaks {WIT_VERSION}"))
}

/// What a plugin asks for must make sense by itself.
pub(super) fn manifest(manifest: &Manifest, exported: Exported, extensions: &[String]) -> Result<(), String> {
    if let Some(extension) = extensions.first() {
        return Err(format!(
            "asks for the extension {extension:?}, which this host ({WIT_VERSION}) does not know"
        ));
    }
    if manifest.gather_ms > GATHER_MS_MAX {
        return Err(format!("gather-ms is {}: at most {GATHER_MS_MAX}", manifest.gather_ms));
    }
    let needs_deliveries = !manifest.subscriptions.is_empty() || !manifest.sagas.is_empty();
    if needs_deliveries && !exported.deliveries {
        return Err("has subscriptions or sagas, but exports no saga:plugin/deliveries".to_owned());
    }
    if !exported.requests && !manifest.routes.is_empty() {
        return Err("has routes, but exports no saga:plugin/requests".to_owned());
    }
    once("the subscription to", manifest.subscriptions.iter().map(|s| s.topic.clone()))?;
    once("the route", manifest.routes.iter().map(|r| format!("{} {}", r.method, shape(&r.path))))?;
    once("the topic", manifest.publishes.iter().cloned())?;
    once("the saga type", manifest.sagas.iter().cloned())?;
    once("the migration", manifest.migrations.iter().map(|m| m.name.clone()))?;
    for route in &manifest.routes {
        if !route.path.starts_with('/')
            || route.method.is_empty()
            || route.method != route.method.to_ascii_uppercase()
        {
            return Err(format!(
                "the route {} {} is not of the form POST /orders/{{id}}",
                route.method, route.path
            ));
        }
    }
    manifest.subscriptions.iter().try_for_each(|subscription| correlation(&subscription.correlation))
}

fn correlation(correlation: &Correlation) -> Result<(), String> {
    match correlation {
        Correlation::Json(pointer) if !pointer.starts_with('/') => {
            Err(format!("the correlation {pointer:?} is not a JSON pointer such as /orderId"))
        }
        Correlation::Header(name) if name.is_empty() || *name != name.to_ascii_lowercase() => {
            Err(format!("the correlation header {name:?} is not in lower case"))
        }
        _ => Ok(()),
    }
}

/// Paths that differ in the names in braces only are the same route.
fn shape(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn once(what: &str, names: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(format!("{what} with an empty name in describe()"));
        }
        if !seen.insert(name.clone()) {
            return Err(format!("{what} {name} stands twice in describe()"));
        }
    }
    Ok(())
}

/// The policy is the ceiling. Gives the grants that are not asked for.
pub(super) fn against_policy(
    stem: &str,
    manifest: &Manifest,
    policy: &Policy,
) -> Result<Vec<String>, String> {
    if manifest.name != stem {
        return Err(format!(
            "describe() names it {:?}: the file must be called {}.wasm",
            manifest.name, manifest.name
        ));
    }
    let read: Vec<String> = manifest.subscriptions.iter().map(|s| s.topic.clone()).collect();
    let routes: Vec<String> = manifest.routes.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    let mut unused = Vec::new();
    for (verb, asked, granted, section, drop) in [
        ("subscribes to", &read, &policy.kafka.read, "[kafka] read", "drop the subscription"),
        (
            "publishes to",
            &manifest.publishes,
            &policy.kafka.write,
            "[kafka] write",
            "drop it from what it publishes",
        ),
        ("answers", &routes, &policy.http.routes, "[http] routes", "drop the route"),
    ] {
        if let Some(beyond) = asked.iter().find(|name| !granted.contains(name)) {
            return Err(format!(
                "{verb} {beyond}, which {stem}.toml does not grant. Add it to {section}, or {drop}."
            ));
        }
        let idle = granted.iter().filter(|name| !asked.contains(name));
        unused.extend(
            idle.map(|name| format!("{stem}.toml grants {name} in {section}, which it does not ask for")),
        );
    }
    Ok(unused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Exported, against_policy, exports, form, imports, manifest};
    use crate::model::{
        manifest::{Correlation, Manifest, Route, Subscription},
        policy::Policy,
    };

    #[test]
    fn what_is_no_component_is_told_apart() {
        for (bytes, expected) in [
            (&b""[..], "an empty file"),
            (b"hello, world", "not WebAssembly"),
            (b"\0as", "not WebAssembly"),
            (b"\0asm\x0d", "a file cut off"),
            (b"\0asm\x01\0\0\0", "a core module, not a component; build with --target wasm32-wasip2"),
            (b"\0asm\x09\0\0\0", "neither"),
        ] {
            assert!(form(bytes).unwrap_err().starts_with(expected), "{bytes:?}");
        }
        assert_eq!(form(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn imports_are_within_what_the_host_has() {
        for (name, expected) in [
            ("saga:plugin/kafka@0.1.0", None),
            ("saga:plugin/kafka@0.1.9", None),
            ("wasi:io/streams@0.2.6", None),
            ("saga:plugin/kafka@0.2.0", Some("needs saga:plugin 0.2.0; this host speaks 0.1.0")),
            ("saga:plugin/secrets@0.1.0", Some("imports saga:plugin/secrets@0.1.0, which")),
            ("wasi:sockets/tcp@0.2.0", Some("imports wasi:sockets/tcp@0.2.0: a plugin")),
            ("wasi:http/types@0.2.0", Some("imports wasi:http/types@0.2.0: a plugin")),
            ("wasi:io/streams@0.3.0", Some("imports wasi:io/streams@0.3.0: a plugin")),
            ("env", Some("imports env: a plugin")),
        ] {
            let answer = imports([name].into_iter());
            match expected {
                None => assert_eq!(answer, Ok(()), "{name}"),
                Some(expected) => assert!(answer.unwrap_err().starts_with(expected), "{name}"),
            }
        }
    }

    #[test]
    fn a_manifest_and_one_handler_must_be_exported() {
        let (manifest, requests) = ("saga:plugin/manifest@0.1.0", "saga:plugin/requests@0.1.3");
        let answer = exports([manifest, requests, "other:thing/else@1.0.0"].into_iter());
        assert_eq!(answer, Ok(Exported { deliveries: false, requests: true }));
        for (names, expected) in [
            (vec![requests], "exports no saga:plugin/manifest"),
            (vec![manifest], "exports neither"),
            (vec!["saga:plugin/manifest@0.2.0"], "needs saga:plugin 0.2.0"),
        ] {
            assert!(exports(names.into_iter()).unwrap_err().starts_with(expected));
        }
    }

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
    fn a_manifest_makes_sense_by_itself() {
        let both = Exported { deliveries: true, requests: true };
        assert_eq!(manifest(&asked(), both, &[]), Ok(()));
        let twice = |change: fn(&mut Manifest)| {
            let mut changed = asked();
            change(&mut changed);
            manifest(&changed, both, &[]).unwrap_err()
        };
        assert_eq!(twice(|m| m.publishes.push("out".into())), "the topic out stands twice in describe()");
        let route = twice(|m| {
            let mut same = m.routes.first().cloned().unwrap();
            same.path = "/a/{other}".to_owned();
            m.routes.push(same);
        });
        assert_eq!(route, "the route POST /a/{} stands twice in describe()");
        let pointer = twice(|m| {
            m.subscriptions.iter_mut().for_each(|s| s.correlation = Correlation::Json("id".into()))
        });
        assert_eq!(pointer, "the correlation \"id\" is not a JSON pointer such as /orderId");
        assert!(manifest(&asked(), both, &["mail".to_owned()]).is_err());
        assert!(manifest(&asked(), Exported { deliveries: false, requests: true }, &[]).is_err());
    }

    #[test]
    fn the_policy_is_the_ceiling() {
        let policy = |grants: &str| {
            Policy::parse("p", &format!("name = \"p\"\n[database]\nname = \"d\"\n{grants}")).unwrap()
        };
        let all =
            "[kafka]\nread = [\"in\"]\nwrite = [\"out\", \"more\"]\n[http]\nroutes = [\"POST /a/{id}\"]\n";
        assert_eq!(
            against_policy("p", &asked(), &policy(all)),
            Ok(vec!["p.toml grants more in [kafka] write, which it does not ask for".to_owned()])
        );
        assert_eq!(
            against_policy("p", &asked(), &policy("")).unwrap_err(),
            "subscribes to in, which p.toml does not grant. Add it to [kafka] read, or drop the subscription."
        );
        assert!(against_policy("q", &asked(), &policy(all)).unwrap_err().contains("p.wasm"));
    }
}
