//! Checks whether a component can become a version: its format, its imports and exports, its manifest, and
//! whether the operator's policy grants what the manifest asks for. Pure. Each error is one sentence that
//! says how to correct it.

mod manifest;

pub(super) use self::manifest::{grants, manifest};

/// The version of the package `saga:plugin` in `wit/` that this host provides.
pub(super) const WIT_VERSION: &str = "0.1.0";
/// Versions of `saga:plugin` with this prefix are compatible with it.
const WIT_COMPATIBLE_PREFIX: &str = "0.1.";
/// The interfaces of `saga:plugin` that a plugin can import.
const CAPABILITIES: [&str; 6] = ["types", "postgres", "kafka", "sagas", "timers", "context"];
/// Packages that the standard libraries of guest languages import. The host grants nothing through them.
const WASI_PACKAGES: [&str; 5] = ["wasi:cli", "wasi:io", "wasi:clocks", "wasi:random", "wasi:filesystem"];
const WASI_COMPATIBLE_PREFIX: &str = "0.2.";

/// Bytes 0 to 3 of every WebAssembly file.
const MAGIC: &[u8] = b"\0asm";
/// Bytes 4 to 7 of a component, and of a core module.
const COMPONENT: &[u8] = &[0x0d, 0x00, 0x01, 0x00];
const CORE_MODULE: &[u8] = &[0x01, 0x00, 0x00, 0x00];

/// Which handlers a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handlers {
    pub(super) deliveries: bool,
    pub(super) requests: bool,
}

/// Checks the first eight bytes: they must be those of a component.
pub(super) fn format(bytes: &[u8]) -> Result<(), String> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(MAGIC), Some(COMPONENT)) => Ok(()),
        (Some(MAGIC), Some(CORE_MODULE)) => {
            Err("a core module, not a component; build with --target wasm32-wasip2".to_owned())
        }
        (Some(MAGIC), Some(_)) => {
            Err("WebAssembly in an unknown format; build a component with --target wasm32-wasip2".to_owned())
        }
        _ if bytes.is_empty() => Err("an empty file; copy it again".to_owned()),
        (Some(MAGIC), None) => Err("a truncated file; copy it again".to_owned()),
        _ => Err("not WebAssembly; build a component with --target wasm32-wasip2".to_owned()),
    }
}

/// Checks that the host provides every import.
pub(super) fn imports<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    for name in names {
        let (package, interface, version) = parts(name);
        match package {
            "saga:plugin" => {
                compatible(version)?;
                if !CAPABILITIES.contains(&interface) {
                    return Err(format!(
                        "imports {name}, which this host (saga:plugin {WIT_VERSION}) does not provide; \
                         upgrade the host"
                    ));
                }
            }
            _ if WASI_PACKAGES.contains(&package) && version.starts_with(WASI_COMPATIBLE_PREFIX) => {}
            _ => {
                return Err(format!(
                    "imports {name}, but a plugin can import saga:plugin only; remove the dependency that \
                     needs it"
                ));
            }
        }
    }
    Ok(())
}

/// Checks that `manifest` and at least one handler are exported. Allows other exports.
pub(super) fn exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<Handlers, String> {
    let (mut manifest, mut handlers) = (false, Handlers::default());
    for name in names {
        let (package, interface, version) = parts(name);
        if package != "saga:plugin" {
            continue;
        }
        compatible(version)?;
        match interface {
            "manifest" => manifest = true,
            "deliveries" => handlers.deliveries = true,
            "requests" => handlers.requests = true,
            _ => {}
        }
    }
    if !manifest {
        return Err("exports no saga:plugin/manifest; build it as a saga plugin".to_owned());
    }
    if handlers == Handlers::default() {
        return Err("exports neither saga:plugin/deliveries nor saga:plugin/requests, so it handles nothing"
            .to_owned());
    }
    Ok(handlers)
}

/// Splits `saga:plugin/kafka@0.1.0` into package, interface and version. Missing parts are empty.
fn parts(name: &str) -> (&str, &str, &str) {
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    (package, interface, version)
}

fn compatible(version: &str) -> Result<(), String> {
    if version.starts_with(WIT_COMPATIBLE_PREFIX) {
        return Ok(());
    }
    Err(format!("needs saga:plugin {version}, but this host provides {WIT_VERSION}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Handlers, exports, format, imports};

    #[test]
    fn files_that_are_no_component_have_errors_of_their_own() {
        for (bytes, expected) in [
            (&b""[..], "an empty file"),
            (b"hello, world", "not WebAssembly"),
            (b"\0as", "not WebAssembly"),
            (b"\0asm\x0d", "a truncated file"),
            (b"\0asm\x01\0\0\0", "a core module, not a component; build with --target wasm32-wasip2"),
            (b"\0asm\x09\0\0\0", "WebAssembly in an unknown format"),
        ] {
            assert!(format(bytes).unwrap_err().starts_with(expected), "{bytes:?}");
        }
        assert_eq!(format(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn only_imports_that_the_host_provides_are_accepted() {
        for (name, expected) in [
            ("saga:plugin/kafka@0.1.0", None),
            ("saga:plugin/kafka@0.1.9", None),
            ("wasi:io/streams@0.2.6", None),
            ("saga:plugin/kafka@0.2.0", Some("needs saga:plugin 0.2.0, but this host provides 0.1.0")),
            ("saga:plugin/secrets@0.1.0", Some("imports saga:plugin/secrets@0.1.0, which")),
            ("wasi:sockets/tcp@0.2.0", Some("imports wasi:sockets/tcp@0.2.0, but a plugin")),
            ("wasi:http/types@0.2.0", Some("imports wasi:http/types@0.2.0, but a plugin")),
            ("wasi:io/streams@0.3.0", Some("imports wasi:io/streams@0.3.0, but a plugin")),
            ("env", Some("imports env, but a plugin")),
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
        assert_eq!(answer, Ok(Handlers { deliveries: false, requests: true }));
        for (names, expected) in [
            (vec![requests], "exports no saga:plugin/manifest"),
            (vec![manifest], "exports neither"),
            (vec!["saga:plugin/manifest@0.2.0"], "needs saga:plugin 0.2.0"),
        ] {
            assert!(exports(names.into_iter()).unwrap_err().starts_with(expected));
        }
    }
}
