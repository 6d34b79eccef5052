//! Kafka's published jars. Maven downloads them once. They are checked against the digests in `jars.sha256`
//! and stored outside the checkout, for every stack of this user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::program::find_program;

const NAME: &str = "kafka-4.4.0";
const POM: &str = include_str!("pom.xml");
/// In the format of sha256sum(1).
const DIGESTS: &str = include_str!("jars.sha256");
const MAVEN_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The class path. Downloads the jars when they are missing; `None` when that needs Maven, which is not
/// installed.
pub(super) async fn class_path() -> anyhow::Result<Option<String>> {
    let cache = cache()?;
    let lib = cache.join(NAME);
    if !is_complete(&lib) {
        let Some(maven) = find_program("mvn") else { return Ok(None) };
        let part = cache.join(format!("{NAME}.{}", std::process::id()));
        let fetched = fetch(&maven, &part).await.and_then(|()| install(&part, &lib));
        // After a success nothing of the folder is left.
        let _ = fs::remove_dir_all(&part);
        fetched?;
    }
    let jars: Vec<String> = digests().map(|(_, jar)| lib.join(jar).display().to_string()).collect();
    Ok(Some(jars.join(":")))
}

fn cache() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|cache| cache.is_absolute());
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME is set: no folder to store Kafka's jars in")?
        .join("saga-host"))
}

fn digests() -> impl Iterator<Item = (&'static str, &'static str)> {
    DIGESTS.lines().filter_map(|line| line.split_once("  "))
}

fn is_complete(lib: &Path) -> bool {
    digests().all(|(_, jar)| lib.join(jar).is_file())
}

async fn fetch(maven: &Path, part: &Path) -> anyhow::Result<()> {
    tracing::info!(into = %part.with_file_name(NAME).display(), "downloading Kafka with Maven, once, 43 MB");
    fs::create_dir_all(part).with_context(|| format!("creating {}", part.display()))?;
    fs::write(part.join("pom.xml"), POM)?;
    let output = tokio::process::Command::new(maven)
        .args(["--batch-mode", "--quiet", "--no-transfer-progress", "--strict-checksums", MAVEN_GOAL])
        .args(["-DincludeScope=runtime", "-DoutputDirectory=lib"])
        .current_dir(part)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting Maven")?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stdout);
        bail!("Maven cannot download Kafka: {}", printed.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// Checks the downloaded jars and moves them to their final folder.
fn install(part: &Path, lib: &Path) -> anyhow::Result<()> {
    let fetched = part.join("lib");
    for (digest, jar) in digests() {
        let bytes = fs::read(fetched.join(jar)).with_context(|| format!("Maven did not download {jar}"))?;
        ensure!(hex::encode(Sha256::digest(&bytes)) == digest, "{jar} differs from the published one");
    }
    let renamed = fs::rename(&fetched, lib);
    if is_complete(lib) {
        // Another stack may have downloaded them at the same time.
        return Ok(());
    }
    renamed.with_context(|| format!("{} is incomplete; remove it", lib.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_jar_has_a_digest() {
        let all: Vec<_> = digests().collect();
        assert_eq!(all.len(), DIGESTS.lines().count());
        assert!(all.iter().all(|(digest, jar)| digest.len() == 64 && jar.ends_with(".jar")));
        assert!(all.iter().any(|(_, jar)| *jar == "kafka_2.13-4.4.0.jar"));
    }

    #[test]
    fn a_jar_that_was_tampered_with_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (part, lib) = (folder.path().join("part"), folder.path().join("lib"));
        fs::create_dir_all(part.join("lib")).unwrap();
        for (_, jar) in digests() {
            fs::write(part.join("lib").join(jar), "other").unwrap();
        }
        let error = install(&part, &lib).unwrap_err().to_string();
        assert!(error.contains("published"), "{error}");
        assert!(!lib.exists());
    }
}
