//! A plugin with two equivalent versions: the component of the build, and a copy with another version number
//! inside, hence with another digest.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use saga_testkit::caller::Request;
use saga_testkit::target::Target;

/// Two versions of a plugin, and which of them is active as far as this program knows.
pub(super) struct TwoVersions {
    name: String,
    versions: [Version; 2],
    active: usize,
}

struct Version {
    number: String,
    component: Vec<u8>,
    /// Known once it has been activated.
    digest: Option<String>,
}

impl TwoVersions {
    /// A plugin from the folder of the build.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.wasm"));
        let component = std::fs::read(&path).with_context(|| {
            format!("{}; build the plugins, or name their folder with --plugins", path.display())
        })?;
        let versions = two(component, name)
            .with_context(|| format!("{} has no version number after its name {name}", path.display()))?
            .map(|(number, component)| Version { number, component, digest: None });
        Ok(Self { name: name.to_owned(), versions, active: 0 })
    }

    /// The numbers of both versions.
    pub(super) fn numbers(&self) -> [String; 2] {
        [self.versions[0].number.clone(), self.versions[1].number.clone()]
    }

    pub(super) fn name(&self) -> &str {
        &self.name
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

/// The component, and a copy in which every digit of its number is a 9; each with its number.
fn two(component: Vec<u8>, plugin: &str) -> Option<[(String, Vec<u8>); 2]> {
    let place = component.windows(plugin.len()).enumerate().find_map(|(place, part)| {
        let after = place + plugin.len();
        (part == plugin.as_bytes()).then(|| number_at(&component, after)).flatten()
    })?;
    let number = String::from_utf8(component[place.clone()].to_vec()).ok()?;
    let other = number.replace(|digit: char| digit.is_ascii_digit(), "9");
    let mut renumbered = component.clone();
    renumbered.splice(place, other.bytes());
    Some([(number, component), (other, renumbered)])
}

/// Where `digits.digits.digits` stands, if it begins here.
fn number_at(component: &[u8], start: usize) -> Option<Range<usize>> {
    let mut end = start;
    for part in 0..3 {
        let digits = component.get(end..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let dot = usize::from(part < 2);
        if digits == 0 || dot == 1 && component.get(end + digits) != Some(&b'.') {
            return None;
        }
        end += digits + dot;
    }
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::two;

    #[test]
    fn only_the_number_after_the_name_changes() {
        let built = b"kafka@0.1.0 plugin plugin1.2 plugin0.1.0, plugin0.1.0 0.1.0".to_vec();
        let [(number, same), (other_number, other)] = two(built.clone(), "plugin").unwrap();
        assert_eq!((number.as_str(), &same), ("0.1.0", &built));
        assert_eq!(other_number, "9.9.9");
        assert_eq!(other, b"kafka@0.1.0 plugin plugin1.2 plugin9.9.9, plugin0.1.0 0.1.0");
        assert!(two(b"plugin".to_vec(), "plugin").is_none());
    }
}
