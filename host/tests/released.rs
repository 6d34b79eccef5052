//! Released files never change: databases have applied the migrations, and plugins are built against the WIT
//! files. `released.toml` pins the hashes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The folders whose files are pinned, from the root of the repository, with the file ending.
const PINNED: [(&str, &str); 2] = [("migrations/host", "sql"), ("wit", "wit")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// SHA-256 of each pinned file, by its path from the root.
fn hashes() -> BTreeMap<String, String> {
    let mut hashes = BTreeMap::new();
    for (folder, ending) in PINNED {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|found| found == ending) {
                let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
                hashes.insert(name, hex::encode(Sha256::digest(std::fs::read(path).unwrap())));
            }
        }
    }
    hashes
}

#[test]
fn released_files_are_unchanged() {
    let table = std::fs::read_to_string(root().join("host/tests/released.toml")).unwrap();
    let released: BTreeMap<String, String> = toml::from_str(&table).unwrap();
    let found = hashes();
    for (file, hash) in &released {
        let now = found.get(file).map(String::as_str);
        assert!(
            now == Some(hash),
            "{file} was released and must not change: add a new file instead (a migration with the next \
             number, a WIT package with a new version). Its hash is {now:?}; host/tests/released.toml has \
             {hash}"
        );
    }
    let unpinned: Vec<_> = found.iter().filter(|(file, _)| !released.contains_key(*file)).collect();
    assert!(
        unpinned.is_empty(),
        "add to host/tests/released.toml when you release these files: {unpinned:?}"
    );
}
