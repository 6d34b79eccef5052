//! What Kafka needs on this machine: Java, and Kafka's jars.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::jars;
use crate::program::{self, find_program, output_of};

/// Kafka 4 runs on Java 17 and later.
const JAVA_MINIMUM: u32 = 17;
/// A heap for development. Parallel garbage collection brings nothing for a heap of this size.
const JVM: [&str; 2] = ["-Xmx512m", "-XX:+UseSerialGC"];
/// For apt, dnf and Homebrew.
const PACKAGES_OF_JAVA: [&str; 3] =
    ["default-jre-headless maven", "java-latest-openjdk-headless maven", "openjdk maven"];
const PACKAGES_OF_MAVEN: [&str; 3] = ["maven"; 3];

/// The programs and files that Kafka runs from.
pub(super) struct Installation {
    pub(super) java: PathBuf,
    class_path: String,
}

impl Installation {
    /// Finds Java and the jars, and downloads the jars when they are missing.
    ///
    /// # Errors
    /// Java or Maven is not installed; the message says what to install. Or the download fails.
    pub(super) async fn find() -> anyhow::Result<Self> {
        let java =
            java().with_context(|| missing(&format!("Java {JAVA_MINIMUM} or later"), PACKAGES_OF_JAVA))?;
        let class_path = jars::class_path().await?.with_context(|| missing("Maven", PACKAGES_OF_MAVEN))?;
        Ok(Self { java, class_path })
    }

    pub(super) fn arguments(&self, folder: &Path, main: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = JVM.iter().map(ToString::to_string).collect();
        arguments.push(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()));
        arguments.extend(["-cp".to_owned(), self.class_path.clone()]);
        arguments.extend(main.iter().map(ToString::to_string));
        arguments
    }
}

/// One line that says what to install.
fn missing(what: &str, [apt, dnf, brew]: [&str; 3]) -> String {
    format!("Kafka needs {what}, which is not installed: {}", program::install(apt, dnf, brew))
}

/// The `java` of `JAVA_HOME`, or the one in `PATH`, when it is recent enough.
fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let found = home.into_iter().chain(find_program("java"));
    found.into_iter().find(|java| {
        let version = output_of(Command::new(java).arg("-version"));
        version.and_then(|text| java_version(&text)).is_some_and(|version| version >= JAVA_MINIMUM)
    })
}

/// The major version in the output of `java -version`; 1 for Java 8 and earlier.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_in_quotes() {
        for (text, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("openjdk version \"25\" 2025-09-16", Some(25)),
            ("openjdk version \"26-ea\"", Some(26)),
            ("java version \"1.8.0_202\"", Some(1)),
            ("The operation couldn't be completed.", None),
        ] {
            assert_eq!(java_version(text), version, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_in_one_line() {
        let line = missing("Maven", PACKAGES_OF_MAVEN);
        assert!(line.contains("Maven") && line.contains("install maven") && !line.contains('\n'), "{line}");
    }
}
