//! Assigns each delivery of a unit to a plugin version. A saga in flight is pinned to the version that
//! started it; the active version handles everything else. One transaction can therefore call several
//! versions, one instance each, one after the other. The version of a key's saga gets all deliveries of the
//! key, in their order.

use std::{ops::Range, sync::Arc};

use super::admit::Work;
use crate::{
    model::{
        fault::{Culprit, Fault, ParkedUntil},
        saga::LiveSaga,
    },
    plugin::lower::SagaIndex,
    versions::{
        PluginVersions,
        draining::{REFUSED_FOR, SagaVersion},
        running::Running,
    },
};

/// One call.
#[derive(Debug)]
pub(super) struct VersionRun {
    pub(super) version: Arc<Running>,
    /// Of [`Runs::deliveries`].
    pub(super) deliveries: Range<usize>,
    /// Of [`Runs::sagas`].
    pub(super) sagas: Range<usize>,
}

/// The calls of a unit.
#[derive(Debug)]
pub(super) struct Runs {
    /// Places in the work, in the order of the runs.
    pub(super) deliveries: Vec<usize>,
    /// In the order of the runs.
    pub(super) sagas: Vec<LiveSaga>,
    pub(super) runs: Vec<VersionRun>,
}

impl Runs {
    /// Assigns the deliveries at `places` of `work`.
    ///
    /// # Errors
    /// [`Fault::VersionNotLoaded`] for a version that must be loaded first, [`Fault::Culprits`] by their
    /// place in `work` where it cannot be.
    pub(super) fn of(
        versions: &PluginVersions,
        active: &Arc<Running>,
        work: &[Work],
        places: Vec<usize>,
        sagas: Vec<LiveSaga>,
    ) -> Result<Self, Fault> {
        let mut assignment = Assignment { versions: vec![active.clone()], any_refused: false };
        let of_sagas =
            sagas.iter().map(|saga| assignment.handler_of(versions, saga)).collect::<Result<Vec<_>, _>>()?;
        if assignment.versions.len() == 1 && !assignment.any_refused {
            let run =
                VersionRun { version: active.clone(), deliveries: 0..places.len(), sagas: 0..sagas.len() };
            let runs = if places.is_empty() { Vec::new() } else { vec![run] };
            return Ok(Self { deliveries: places, sagas, runs });
        }
        let by_key = SagaIndex::of(&sagas);
        let of_delivery = |place: usize| match by_key.find(&work[place].delivery) {
            Some(saga) => of_sagas[saga as usize].clone(),
            None => Handler::Run(0),
        };
        let mut culprits = Vec::new();
        let mut deliveries = Vec::with_capacity(places.len());
        for place in places {
            match of_delivery(place) {
                Handler::Run(run) => deliveries.push((run, place)),
                Handler::Refused(reason) => culprits.push(culprit(place, reason)),
            }
        }
        if !culprits.is_empty() {
            return Err(Fault::Culprits(culprits));
        }
        let of_sagas = of_sagas.iter().map(|handler| if let Handler::Run(run) = handler { *run } else { 0 });
        let sagas = of_sagas.zip(sagas).collect();
        Ok(Self::sorted(assignment.versions, deliveries, sagas))
    }

    fn sorted(
        versions: Vec<Arc<Running>>,
        mut deliveries: Vec<(usize, usize)>,
        mut sagas: Vec<(usize, LiveSaga)>,
    ) -> Self {
        deliveries.sort_by_key(|(run, _)| *run);
        sagas.sort_by_key(|(run, _)| *run);
        let run = |(place, version)| VersionRun {
            version,
            deliveries: range(&deliveries, place),
            sagas: range(&sagas, place),
        };
        let runs =
            versions.into_iter().enumerate().map(run).filter(|run| !run.deliveries.is_empty()).collect();
        Self {
            runs,
            deliveries: deliveries.into_iter().map(|(_, place)| place).collect(),
            sagas: sagas.into_iter().map(|(_, saga)| saga).collect(),
        }
    }

    /// The digest of the version that handles the delivery at `cause` of [`Self::deliveries`].
    pub(super) fn digest(&self, cause: usize) -> &str {
        self.runs
            .iter()
            .find(|run| run.deliveries.contains(&cause))
            .map_or("", |run| &run.version.version.digest)
    }
}

/// Which version handles a saga.
#[derive(Clone, Debug)]
enum Handler {
    /// This one of [`Assignment::versions`].
    Run(usize),
    /// A version that cannot run here; why.
    Refused(String),
}

struct Assignment {
    /// The active one first.
    versions: Vec<Arc<Running>>,
    any_refused: bool,
}

impl Assignment {
    fn handler_of(&mut self, versions: &PluginVersions, saga: &LiveSaga) -> Result<Handler, Fault> {
        let known = self.versions.iter().position(|version| version.version.digest == saga.version);
        if let Some(run) = known {
            return Ok(Handler::Run(run));
        }
        match versions.for_saga(&self.versions[0], &saga.version) {
            SagaVersion::Ready(version) => {
                let same = self.versions.iter().position(|other| Arc::ptr_eq(other, &version));
                Ok(Handler::Run(same.unwrap_or_else(|| {
                    self.versions.push(version);
                    self.versions.len() - 1
                })))
            }
            SagaVersion::Refused(reason) => {
                self.any_refused = true;
                Ok(Handler::Refused(reason))
            }
            SagaVersion::NotLoaded => Err(Fault::VersionNotLoaded(saga.version.clone())),
        }
    }
}

fn culprit(place: usize, reason: String) -> Culprit {
    let after_ms = u32::try_from(REFUSED_FOR.as_millis()).unwrap_or(u32::MAX);
    Culprit { cause: place, reason, until: ParkedUntil::VersionRetryMs(after_ms) }
}

/// The range of one run, in a list that is sorted by run.
fn range<T>(sorted: &[(usize, T)], run: usize) -> Range<usize> {
    sorted.partition_point(|(of, _)| *of < run)..sorted.partition_point(|(of, _)| *of <= run)
}
