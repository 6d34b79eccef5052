//! A plugin of which two versions are swapped: the one that was built, and the same under another version
//! number, which the host shows beside what each has handled.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use saga_testkit::caller::Request;
use saga_testkit::target::Target;

/// Those that are swapped.
pub(crate) const PLUGINS: [&str; 2] = ["order-orchestrator", "inventory-command"];
/// As Cargo.toml has it, and what the other version is called instead.
pub(crate) const NUMBERS: [&str; 2] = [env!("CARGO_PKG_VERSION"), "9.9.9"];

/// Two versions and which of them is active, as far as this program has heard.
pub(crate) struct Swapped {
    name: &'static str,
    versions: [Version; 2],
    active: usize,
}

struct Version {
    component: Vec<u8>,
    /// Known once it was activated.
    digest: Option<String>,
}

impl Swapped {
    fn read(plugins: &Path, name: &'static str) -> Result<Self> {
        let versions = both(plugins, name)?.map(|component| Version { component, digest: None });
        Ok(Self { name, versions, active: 0 })
    }

    /// All of [`PLUGINS`], from the folder of the build.
    pub(crate) fn all(plugins: &Path) -> Result<[Self; 2]> {
        Ok([Self::read(plugins, PLUGINS[0])?, Self::read(plugins, PLUGINS[1])?])
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The digest of the active version, empty as long as none was activated.
    pub(crate) fn active(&self) -> &str {
        self.versions[self.active].digest.as_deref().unwrap_or_default()
    }

    /// Has a host activate the other version.
    pub(crate) async fn swap(&mut self, target: &Target) -> Result<()> {
        let next = &mut self.versions[1 - self.active];
        let put = Request::put(format!("/v1/plugins/{}", self.name), next.component.clone());
        let digest = put.send(target.admin()?).await?.expect(200)?.member("digest")?;
        next.digest = Some(digest.as_str().context("a digest that is no text")?.to_owned());
        self.active = 1 - self.active;
        Ok(())
    }

    /// What became of a swap that had no answer.
    pub(crate) fn is_active(&mut self, digest: &str) -> Result<()> {
        let known = self.versions.iter().position(|version| version.digest.as_deref() == Some(digest));
        self.active =
            known.with_context(|| format!("{digest} of {} is neither of the two versions", self.name))?;
        Ok(())
    }
}

/// The component that was built, and the other version.
fn both(plugins: &Path, plugin: &str) -> Result<[Vec<u8>; 2]> {
    let path = plugins.join(format!("{plugin}.wasm"));
    let built = std::fs::read(&path).with_context(|| {
        format!("{}; build the plugins, or name their folder by --plugins", path.display())
    })?;
    let other = renumbered(&built, plugin)
        .with_context(|| format!("{} does not call itself {plugin} {}", path.display(), NUMBERS[0]))?;
    Ok([built, other])
}

/// The component with another number behind its name, of the same length.
fn renumbered(component: &[u8], plugin: &str) -> Result<Vec<u8>> {
    let from = format!("{plugin}{}", NUMBERS[0]);
    let place = component.windows(from.len()).position(|part| part == from.as_bytes());
    let number = place.context("no such text")? + plugin.len();
    ensure!(NUMBERS[0].len() == NUMBERS[1].len(), "a number of another length");
    let mut other = component.to_vec();
    other.splice(number..number + NUMBERS[0].len(), NUMBERS[1].bytes());
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS, renumbered};

    #[test]
    fn only_the_number_behind_the_name_changes() {
        let built = format!("kafka@{0} plugin{0} {0}", NUMBERS[0]);
        let other = renumbered(built.as_bytes(), "plugin").unwrap();
        assert_eq!(other, format!("kafka@{0} plugin{1} {0}", NUMBERS[0], NUMBERS[1]).into_bytes());
        assert!(renumbered(b"plugin", "plugin").is_err());
    }
}
