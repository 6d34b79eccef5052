//! Compiled components on disk, so that a version that was compiled once starts in milliseconds.
//!
//! A file is named by the SHA-256 of the component together with everything that its machine code depends on
//! (wasmtime's version, settings, this processor), and begins with the SHA-256 of the rest. What does not
//! match is compiled anew. The files that were used last are kept; those of versions long retired, of other
//! settings, and what a killed host left half written go.

use std::{
    fs,
    hash::{Hash, Hasher},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, oneshot};
use wasmtime::{Engine, component::Component};

const HASH_BYTES: usize = 32;
/// Files that are kept: more than the versions that some plugins can go back to.
const KEPT: usize = 128;
/// Above that of the threads that serve: compiling and loading never make a unit wait.
const NICENESS: i32 = 10;

/// The folder.
#[derive(Debug)]
pub(super) struct ComponentCache {
    folder: PathBuf,
    settings: Vec<u8>,
    /// Nobody who waits for a component that is there waits for one that is compiled.
    loader: Aside,
    /// Compiling uses all cores already: one component at a time.
    compiler: Mutex<Aside>,
}

/// Where a component came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Cached,
    Compiled(Duration),
}

impl ComponentCache {
    /// Makes the folder, for the host's own account only.
    pub(super) fn open(folder: PathBuf, engine: &Engine) -> anyhow::Result<Self> {
        let context = || format!("the folder of compiled components, {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(context)?;
        let metadata = fs::symlink_metadata(&folder).with_context(context)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
            bail!(
                "{} must be a folder of the account that runs the host: machine code is loaded from it",
                context()
            );
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).with_context(context)?;
        let mut settings = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        prune(&folder, KEPT);
        let (loader, compiler) = (Aside::start("load-plugin")?, Aside::start("compile-plugin")?);
        Ok(Self { folder, settings: settings.0.finalize().to_vec(), loader, compiler: Mutex::new(compiler) })
    }

    /// The component of these bytes, from the folder or compiled on a thread of low priority.
    ///
    /// # Errors
    /// What the compiler says against the bytes.
    pub(super) async fn load(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<(Component, Origin)> {
        let path = self.path(bytes);
        let cached = || {
            let (engine, path) = (engine.clone(), path.clone());
            self.loader.run(move || read(&engine, &path))
        };
        if let Some(component) = cached().await? {
            return Ok((component, Origin::Cached));
        }
        let compiling = self.compiler.lock().await;
        if let Some(component) = cached().await? {
            return Ok((component, Origin::Cached));
        }
        let begun = Instant::now();
        let (engine, source) = (engine.clone(), bytes.to_vec());
        let component = compiling.run(move || Component::from_binary(&engine, &source)).await??;
        if let Err(error) =
            component.serialize().map_err(anyhow::Error::from).and_then(|code| write(&path, &code))
        {
            tracing::warn!(error = format!("{error:#}"), "a compiled component is not kept");
        }
        prune(&self.folder, KEPT);
        Ok((component, Origin::Compiled(begun.elapsed())))
    }

    fn path(&self, bytes: &[u8]) -> PathBuf {
        let mut key = Sha256::new();
        key.update(Sha256::digest(bytes));
        key.update(&self.settings);
        self.folder.join(hex::encode(key.finalize())).with_extension("component")
    }
}

/// Feeds a `Hash` to SHA-256: the standard hasher's 64 bits are too few for a file's identity.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// A thread of low priority: nobody who is served waits for what it does. One for all work of a kind, since
/// memory that came from a thread that has ended is slow to be used again.
#[derive(Debug)]
struct Aside(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Aside {
    fn start(name: &str) -> anyhow::Result<Self> {
        let (sender, work) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let run = move || {
            // Threads that the compiler starts inherit it. Without it the work is only ruder.
            let _lowered = rustix::process::setpriority_process(None, NICENESS);
            for work in work {
                // Whoever asked hears of it by getting no answer.
                let _panicked = catch_unwind(AssertUnwindSafe(work));
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .context("starting the thread that loads plugins")?;
        Ok(Self(sender))
    }

    /// Does it when what was asked for before is done.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> wasmtime::Result<T> {
        let (answer, done) = oneshot::channel();
        let work = move || {
            let _asker_may_be_gone = answer.send(work());
        };
        // A thread that is gone drops it, and the answer with it.
        let _sent = self.0.send(Box::new(work));
        Ok(done.await?)
    }
}

/// None when there is no such file or it is not as it was written.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let mut file = fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    // Its time is when it was used last. It only decides which file goes first.
    let _unknown = file.set_modified(SystemTime::now());
    let (hash, code) = bytes.split_at_checked(HASH_BYTES)?;
    if Sha256::digest(code).as_slice() != hash {
        return None;
    }
    deserialize(engine, code)
}

#[allow(
    unsafe_code,
    reason = "wasmtime trusts machine code; these bytes were written by `write` below, into a folder of mode 0700 \
              that belongs to this account, and their hash has been compared: who can forge them can replace \
              the host itself"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: see the reason above.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Under a name of its own first: a reader never sees half a file.
fn write(path: &Path, code: &[u8]) -> anyhow::Result<()> {
    let unfinished = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    file.sync_data()?;
    fs::rename(&unfinished, path).context("cannot put it in place")
}

/// Removes all but the files that were used last. What cannot be removed stays.
fn prune(folder: &Path, kept: usize) {
    let used = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<(SystemTime, PathBuf)> =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(used).collect();
    files.sort_unstable_by(|one, other| other.cmp(one));
    for (_, path) in files.into_iter().skip(kept) {
        let _stays = fs::remove_file(path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use wasmtime::{Config, Engine};

    use super::{ComponentCache, Origin, SystemTime, prune};

    /// A component with nothing in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    async fn origin(folder: &Path, engine: &Engine) -> &'static str {
        let cache = ComponentCache::open(folder.to_owned(), engine);
        let loaded = match &cache {
            Ok(cache) => cache.load(engine, EMPTY).await.ok(),
            Err(_) => None,
        };
        match loaded {
            Some((_, Origin::Cached)) => "cached",
            Some((_, Origin::Compiled(_))) => "compiled",
            None => "nothing",
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        assert_eq!(origin(folder.path(), &engine).await, "compiled");
        assert_eq!(origin(folder.path(), &engine).await, "cached");
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&[], &whole[..10], &whole[..whole.len() - 1], &flipped] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(origin(folder.path(), &engine).await, "compiled");
            assert_eq!(fs::read(&file).unwrap(), whole);
        }
        let other = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        assert_eq!(origin(folder.path(), &other).await, "compiled");
        assert_eq!(origin(folder.path(), &engine).await, "cached");
    }

    #[test]
    fn what_was_used_long_ago_goes_first() {
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
