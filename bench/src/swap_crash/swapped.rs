//! A plugin of which two versions are swapped, each known by its digest.

use std::path::Path;

use anyhow::{Context, Result};

use crate::caller::Request;
use crate::storm::versions;
use crate::target::Target;

/// Two versions and which of them is active, as far as this program has heard.
pub(super) struct Swapped {
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
    pub(super) fn read(plugins: &Path, name: &'static str) -> Result<Self> {
        let versions = versions::both(plugins, name)?.map(|component| Version { component, digest: None });
        Ok(Self { name, versions, active: 0 })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The digest of the active version, empty as long as none was activated.
    pub(super) fn active(&self) -> &str {
        self.versions[self.active].digest.as_deref().unwrap_or_default()
    }

    /// Has a host activate the other version.
    pub(super) async fn swap(&mut self, target: &Target) -> Result<()> {
        let next = &mut self.versions[1 - self.active];
        let put = Request::put(format!("/v1/plugins/{}", self.name), next.component.clone());
        let digest = put.send(target.admin()?).await?.expect(200)?.member("digest")?;
        next.digest = Some(digest.as_str().context("a digest that is no text")?.to_owned());
        self.active = 1 - self.active;
        Ok(())
    }

    /// What became of a swap that had no answer.
    pub(super) fn is_active(&mut self, digest: &str) -> Result<()> {
        let known = self.versions.iter().position(|version| version.digest.as_deref() == Some(digest));
        self.active = known.with_context(|| format!("{digest} of {} is neither of the two versions", self.name))?;
        Ok(())
    }
}
