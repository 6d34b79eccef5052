//! Stores compiled components on disk, so that a version that was compiled once starts in milliseconds.
//!
//! A file is named by the SHA-256 of the component together with everything that its machine code depends on
//! (wasmtime's version, its settings, this processor), and begins with the SHA-256 of the rest. A file that
//! does not match is compiled again. The cache keeps the most recently used files. The others go: those of
//! retired versions, of other settings, and those that a killed host has written in part.

use std::{
    fs,
    hash::{Hash, Hasher},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use wasmtime::{Engine, component::Component};

use super::low_priority_thread::LowPriorityThread;

const HASH_BYTES: usize = 32;
/// Files in the cache, at most: room for the versions that several plugins can roll back to.
const CACHED_FILES_MAX: usize = 128;

/// A folder of compiled components.
#[derive(Debug)]
pub(super) struct ComponentCache {
    folder: PathBuf,
    /// Hash of everything but the component that machine code depends on.
    settings: Vec<u8>,
    /// Apart from `compiler`: loading a cached component does not wait while another one is compiled.
    loader: LowPriorityThread,
    /// Compiles one component at a time, since one already uses all cores.
    compiler: Mutex<LowPriorityThread>,
}

/// Whether a component was in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheOutcome {
    Hit,
    /// Not in the cache: it took this long to compile.
    Compiled(Duration),
}

impl ComponentCache {
    /// Creates the folder with mode 0700.
    ///
    /// # Errors
    /// The folder cannot be created, or belongs to another account.
    pub(super) fn open(folder: PathBuf, engine: &Engine) -> anyhow::Result<Self> {
        let context = || format!("opening the folder of compiled components {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(context)?;
        let metadata = fs::symlink_metadata(&folder).with_context(context)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
            bail!(
                "{} must be a folder that belongs to the account of the host, since the host runs \
                 machine code from it; set --cache (SAGA_HOST_CACHE) to another folder",
                folder.display()
            );
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).with_context(context)?;
        let mut settings = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        prune(&folder, CACHED_FILES_MAX);
        let loader = LowPriorityThread::start("load-plugin")?;
        let compiler = LowPriorityThread::start("compile-plugin")?;
        Ok(Self { folder, settings: settings.0.finalize().to_vec(), loader, compiler: Mutex::new(compiler) })
    }

    /// Loads the component with these bytes from the cache, or compiles it and adds it to the cache.
    ///
    /// # Errors
    /// The bytes are not a component that wasmtime can compile. A failure to write the file is only logged.
    pub(super) async fn load(
        &self,
        engine: &Engine,
        bytes: &[u8],
    ) -> wasmtime::Result<(Component, CacheOutcome)> {
        let path = self.path(bytes);
        let cached = || {
            let (engine, path) = (engine.clone(), path.clone());
            self.loader.run(move || read(&engine, &path))
        };
        if let Some(component) = cached().await? {
            return Ok((component, CacheOutcome::Hit));
        }
        let compiling = self.compiler.lock().await;
        if let Some(component) = cached().await? {
            return Ok((component, CacheOutcome::Hit));
        }
        let started_at = Instant::now();
        let (engine, source) = (engine.clone(), bytes.to_vec());
        let component = compiling.run(move || Component::from_binary(&engine, &source)).await??;
        if let Err(error) =
            component.serialize().map_err(anyhow::Error::from).and_then(|code| write(&path, &code))
        {
            tracing::warn!(
                file = %path.display(),
                reason = format!("{error:#}"),
                "cannot store a compiled component, the next start compiles it again"
            );
        }
        prune(&self.folder, CACHED_FILES_MAX);
        Ok((component, CacheOutcome::Compiled(started_at.elapsed())))
    }

    fn path(&self, bytes: &[u8]) -> PathBuf {
        let mut key = Sha256::new();
        key.update(Sha256::digest(bytes));
        key.update(&self.settings);
        self.folder.join(hex::encode(key.finalize())).with_extension("component")
    }
}

/// Hashes with SHA-256: the 64 bits of the standard hasher are too few to identify a file.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// None when the file is missing or damaged.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let mut file = fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    // The modification time records the last use. Without it only the order of eviction is worse.
    let _unchanged = file.set_modified(SystemTime::now());
    let (hash, code) = bytes.split_at_checked(HASH_BYTES)?;
    if Sha256::digest(code).as_slice() != hash {
        return None;
    }
    deserialize(engine, code)
}

#[allow(
    unsafe_code,
    reason = "wasmtime trusts machine code. `write` below has written these bytes into a folder of mode 0700 \
              that belongs to this account, and `read` has compared their hash: whoever can forge them can \
              replace the host itself"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: see the reason above.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Writes a temporary file and renames it, so that a reader never sees a part of a file.
fn write(path: &Path, code: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    file.sync_data()?;
    fs::rename(&temporary, path).context("renaming the temporary file")
}

/// Removes all but the `files_max` most recently used files. Leaves a file that cannot be removed.
fn prune(folder: &Path, files_max: usize) {
    let last_used = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<(SystemTime, PathBuf)> =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(last_used).collect();
    files.sort_unstable_by(|one, other| other.cmp(one));
    for (_, path) in files.into_iter().skip(files_max) {
        let _left = fs::remove_file(path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use wasmtime::{Config, Engine};

    use super::{CacheOutcome, ComponentCache, SystemTime, prune};

    /// A component without content.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    async fn load(folder: &Path, engine: &Engine) -> &'static str {
        let cache = ComponentCache::open(folder.to_owned(), engine);
        let loaded = match &cache {
            Ok(cache) => cache.load(engine, EMPTY).await.ok(),
            Err(_) => None,
        };
        match loaded {
            Some((_, CacheOutcome::Hit)) => "cached",
            Some((_, CacheOutcome::Compiled(_))) => "compiled",
            None => "nothing",
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        assert_eq!(load(folder.path(), &engine).await, "compiled");
        assert_eq!(load(folder.path(), &engine).await, "cached");
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&[], &whole[..10], &whole[..whole.len() - 1], &flipped] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(load(folder.path(), &engine).await, "compiled");
            assert_eq!(fs::read(&file).unwrap(), whole);
        }
        let other = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        assert_eq!(load(folder.path(), &other).await, "compiled");
        assert_eq!(load(folder.path(), &engine).await, "cached");
    }

    #[test]
    fn the_least_recently_used_files_go_first() {
        let folder = tempfile::tempdir().unwrap();
        for age in 0..5 {
            let file = fs::File::create(folder.path().join(age.to_string())).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        prune(folder.path(), 3);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().flatten().map(|file| file.file_name()).collect();
        left.sort();
        assert_eq!(left, ["0", "1", "2"]);
    }
}
