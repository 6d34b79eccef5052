//! A plugin with two equivalent versions: the component of the build, and a copy with another version number
//! inside, hence with another digest.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use saga_testkit::caller::Request;
use saga_testkit::target::Target;

/// The plugins that are swapped.
pub(super) const PLUGINS: [&str; 2] = ["order-orchestrator", "inventory-command"];
/// The version number of Cargo.toml, and the one that the other version has.
pub(super) const NUMBERS: [&str; 2] = [env!("CARGO_PKG_VERSION"), "9.9.9"];

/// Two versions of a plugin, and which of them is active as far as this program knows.
pub(super) struct TwoVersions {
    name: &'static str,
    versions: [Version; 2],
    active: usize,
}

struct Version {
    component: Vec<u8>,
    /// Known once it has been activated.
    digest: Option<String>,
}

impl TwoVersions {
    /// All of [`PLUGINS`], from the folder of the build.
    pub(super) fn all(folder: &Path) -> Result<[Self; 2]> {
        Ok([Self::read(folder, PLUGINS[0])?, Self::read(folder, PLUGINS[1])?])
    }

    fn read(folder: &Path, name: &'static str) -> Result<Self> {
        let path = folder.join(format!("{name}.wasm"));
        let built = std::fs::read(&path).with_context(|| {
            format!("{}; build the plugins, or name their folder with --plugins", path.display())
        })?;
        let other = renumbered(&built, name)
            .with_context(|| format!("{} does not call itself {name} {}", path.display(), NUMBERS[0]))?;
        let versions = [built, other].map(|component| Version { component, digest: None });
        Ok(Self { name, versions, active: 0 })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The digest of the active version; empty before the first activation here.
    pub(super) fn active(&self) -> &str {
        self.versions[self.active].digest.as_deref().unwrap_or_default()
    }

    /// Asks a host to activate the other version.
    pub(super) async fn swap(&mut self, target: &Target) -> Result<()> {
        let next = &mut self.versions[1 - self.active];
        let put = Request::put(format!("/v1/plugins/{}", self.name), next.component.clone());
        let digest = put.send(target.admin()?).await?.expect(200)?.member("digest")?;
        next.digest = Some(digest.as_str().context("a digest that is no text")?.to_owned());
        self.active = 1 - self.active;
        Ok(())
    }

    /// Corrects which version is active, after a swap without an answer.
    pub(super) fn set_active(&mut self, digest: &str) -> Result<()> {
        let known = self.versions.iter().position(|version| version.digest.as_deref() == Some(digest));
        self.active =
            known.with_context(|| format!("{digest} of {} is neither of the two versions", self.name))?;
        Ok(())
    }
}

/// The component with another number after its name, of the same length.
fn renumbered(component: &[u8], plugin: &str) -> Result<Vec<u8>> {
    ensure!(NUMBERS[0].len() == NUMBERS[1].len(), "a number of another length");
    let from = format!("{plugin}{}", NUMBERS[0]);
    let place = component.windows(from.len()).position(|part| part == from.as_bytes());
    let number = place.context("no such text")? + plugin.len();
    let mut other = component.to_vec();
    other.splice(number..number + NUMBERS[0].len(), NUMBERS[1].bytes());
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS, renumbered};

    #[test]
    fn only_the_number_after_the_name_changes() {
        let built = format!("kafka@{0} plugin{0} {0}", NUMBERS[0]);
        let other = renumbered(built.as_bytes(), "plugin").unwrap();
        assert_eq!(other, format!("kafka@{0} plugin{1} {0}", NUMBERS[0], NUMBERS[1]).into_bytes());
        assert!(renumbered(b"plugin", "plugin").is_err());
    }
}
