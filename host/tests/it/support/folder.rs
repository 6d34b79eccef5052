//! Folders of tests, below the folder of the build. Those of a failed run remain until the next run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where `just build-plugins` puts components and policies.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist");

/// The folder of this process.
static OF_RUN: LazyLock<PathBuf> = LazyLock::new(|| {
    let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it");
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !Path::new("/proc").join(pid).exists() {
            // Another run may remove it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = runs.join(std::process::id().to_string());
    fs::create_dir_all(&folder).unwrap();
    folder
});

/// A new folder.
pub(crate) fn new(what: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let folder = OF_RUN.join(format!("{}-{what}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap();
    folder
}

/// Compiled components, kept for all hosts of all runs.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// A plugin folder for one test, with the named plugins, or all of them.
pub(crate) fn plugins(names: &[&str]) -> PathBuf {
    let folder = new("plugins");
    for entry in fs::read_dir(BUILT).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let chosen = names.is_empty() || names.iter().any(|plugin| name.starts_with(&format!("{plugin}.")));
        if chosen && !name.starts_with('.') {
            fs::copy(entry.path(), folder.join(name)).unwrap();
        }
    }
    let built = |name: &&str| folder.join(format!("{name}.wasm")).exists();
    let expected = if names.is_empty() { &crate::support::host::PLUGINS[..] } else { names };
    assert!(expected.iter().all(built), "no plugins in {BUILT}; build them first: just build-plugins");
    folder
}

/// Adds one more plugin to a folder, the component last.
pub(crate) fn add_plugin(folder: &Path, name: &str) {
    for kind in ["toml", "wasm"] {
        let file = format!("{name}.{kind}");
        let bytes = fs::read(Path::new(BUILT).join(&file)).unwrap();
        saga_testkit::plugin_folder::replace(&folder.join(&file), &bytes).unwrap();
    }
}
