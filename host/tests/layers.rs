//! The layers of the host: a module imports only from modules below it. The order is written down here and,
//! as a drawing, in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};

/// The top-level modules of `host/src`, from the top to the bottom. Modules in one row do not import each
/// other.
const LAYERS: [&[&str]; 16] = [
    &["cli", "fuzz"],
    &["runtime"],
    &["admin"],
    &["rollout"],
    &["ingress"],
    &["lane"],
    &["unit"],
    &["versions"],
    &["plugin", "relay"],
    &["capability", "claims"],
    &["store"],
    &["kafka", "listener"],
    &["model"],
    &["config"],
    &["log"],
    &["clock", "fault_point", "metrics", "problem", "sabotage", "supervise"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The top-level modules that a file names by `crate::…`, in imports and elsewhere.
fn imports(source: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    collect(source.parse().unwrap(), &mut modules);
    modules
}

fn collect(tokens: TokenStream, modules: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (place, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(ident) if ident == "crate" => match tokens.get(place + 3) {
                Some(TokenTree::Ident(module)) => drop(modules.insert(module.to_string())),
                Some(TokenTree::Group(group)) => modules.extend(first_idents(group.stream())),
                _ => {}
            },
            TokenTree::Group(group) => collect(group.stream(), modules),
            _ => {}
        }
    }
}

/// `a` and `b` of `a::c, b::{d, e}`.
fn first_idents(tokens: TokenStream) -> Vec<String> {
    let mut first = true;
    let mut idents = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if first => idents.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                first = true;
                continue;
            }
            _ => {}
        }
        first = false;
    }
    idents
}

/// What is wrong with the imports of a file in `module`.
fn upward_imports(module: &str, source: &str) -> Vec<String> {
    let Some(own) = layer(module) else { return vec![format!("{module} has no layer")] };
    let others = imports(source).into_iter().filter(|other| other != module);
    let upward = others.filter(|other| layer(other).is_some_and(|other| other <= own));
    upward.map(|other| format!("{module} imports {other}, which is not below it")).collect()
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(source_files(&path)),
            false if path.extension().is_some_and(|suffix| suffix == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn a_module_imports_only_from_modules_below_it() {
    let sources = repository().join("host/src");
    let mut wrong = Vec::new();
    for file in source_files(&sources) {
        let place = file.strip_prefix(&sources).unwrap();
        let module = place.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let found = upward_imports(module, &fs::read_to_string(&file).unwrap());
        wrong.extend(found.into_iter().map(|reason| format!("{}: {reason}", place.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_is_found_in_any_place() {
    for (module, source, upward) in [
        ("unit", "use crate::lane::kafka::KafkaLane;", true),
        ("unit", "use crate::{model::fault::Fault, rollout::{Rollout, service::Service}};", true),
        ("unit", "fn run(lane: &crate::lane::Lane) {}", true),
        ("unit", "mod tests { use crate::admin; }", true),
        ("plugin", "use crate::relay::Relay;", true),
        ("unit", "use crate::{model::fault::Fault, plugin::call::Called};", false),
        ("unit", "use crate::unit::flush; use super::commit;", false),
    ] {
        assert_eq!(!upward_imports(module, source).is_empty(), upward, "{module}: {source}");
    }
}

/// The first code block under "Layers" has one row for each layer, which begins with its modules.
#[test]
fn architecture_draws_the_same_layers() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let drawing = text.split("\n## Layers\n").nth(1).unwrap().split("```").nth(1).unwrap();
    let names = |row: &str| {
        let names = row.split("  ").next().unwrap_or_default().split(',').map(|name| name.trim().to_owned());
        names.collect::<Vec<_>>()
    };
    let drawn: Vec<_> = drawing.lines().skip(1).map(names).collect();
    let expected: Vec<Vec<String>> =
        LAYERS.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(drawn, expected);
}
