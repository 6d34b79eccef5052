use std::{fs, path::Path};

use super::{Change, Folder, PluginName};

fn name(text: &str) -> PluginName {
    PluginName::parse(text).unwrap()
}

/// The changes that scans report until nothing changes.
fn settled(folder: &mut Folder) -> Vec<String> {
    let changes = (0..3).flat_map(|_| folder.scan()).collect::<Vec<_>>();
    let shown = changes.into_iter().map(|change| match change {
        Change::File { plugin, component, component_changed } => {
            let what = if component_changed { "component" } else { "policy" };
            format!("{plugin} {what}: {}", String::from_utf8_lossy(&component))
        }
        Change::Deleted { plugin } => format!("{plugin} deleted"),
        Change::Unreadable { reason, .. } => reason,
    });
    shown.collect()
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

#[test]
fn each_state_is_reported_once_after_it_has_settled() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| write(directory.path(), name, text);
    let mut folder = Folder::new(directory.path().to_owned());
    write("a.wasm", "one");
    for ignored in [".b.wasm", "c.wasm.tmp", "d.wasm~", "e.toml", ".wasm"] {
        write(ignored, "x");
    }
    assert_eq!(folder.scan(), []);
    assert_eq!(settled(&mut folder), ["a component: one"]);
    write("a.wasm", "three");
    write("a.toml", "p");
    assert_eq!(settled(&mut folder), ["a component: three"]);
    write("a.toml", "q");
    assert_eq!(settled(&mut folder), ["a policy: three"]);
    write("b.tmp", "three");
    fs::rename(directory.path().join("b.tmp"), directory.path().join("a.wasm")).unwrap();
    assert_eq!(settled(&mut folder), Vec::<String>::new(), "the same content is no change");
    fs::remove_file(directory.path().join("a.wasm")).unwrap();
    fs::create_dir(directory.path().join("f.wasm")).unwrap();
    assert_eq!(settled(&mut folder), ["a deleted", "not a file"]);
    write("a.wasm", "three");
    assert_eq!(settled(&mut folder), Vec::<String>::new(), "it came back unchanged");
    drop(directory);
    assert_eq!(settled(&mut folder).len(), 1);
}

#[test]
fn a_file_that_was_read_at_the_start_is_no_change() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("a.wasm", "one"), ("a.toml", "p"), ("b.toml", "stored component")] {
        write(directory.path(), name, text);
    }
    let mut folder = Folder::new(directory.path().to_owned());
    assert_eq!(folder.read(), [(name("a"), Some(b"one".to_vec())), (name("b"), None)]);
    assert_eq!(settled(&mut folder), Vec::<String>::new());
    write(directory.path(), "a.wasm", "two");
    assert_eq!(settled(&mut folder), ["a component: two"]);
}

#[test]
fn a_file_with_another_name_is_reported_once_and_never_deployed() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["a b.wasm", "A.wasm", "new\nline.wasm", "B.toml"] {
        write(directory.path(), file, "x");
    }
    let mut folder = Folder::new(directory.path().to_owned());
    assert_eq!(folder.read(), []);
    let reported = settled(&mut folder);
    assert_eq!(reported.len(), 3, "{reported:?}");
    assert!(reported.iter().all(|reason| reason.contains("is not the name of a plugin")), "{reported:?}");
    assert!(!reported.concat().contains('\n'), "{reported:?}");
}

#[test]
fn a_component_is_read_at_the_start_although_its_policy_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a.wasm", "one");
    fs::create_dir(directory.path().join("a.toml")).unwrap();
    let mut folder = Folder::new(directory.path().to_owned());
    assert_eq!(folder.read(), [(name("a"), Some(b"one".to_vec()))]);
    assert_eq!(settled(&mut folder), ["its policy a.toml: not a file"]);
    fs::remove_dir(directory.path().join("a.toml")).unwrap();
    assert_eq!(settled(&mut folder), ["a component: one"]);
}
