//! The tasks of a host, by the stage of stopping in which they end.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tokens that end each stage of a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stops {
    pub(crate) listeners: CancellationToken,
    pub(crate) lanes: CancellationToken,
    pub(crate) consumers: CancellationToken,
    pub(crate) relays: CancellationToken,
}

/// The tasks of each stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) listeners: TaskTracker,
    pub(crate) lanes: TaskTracker,
    pub(crate) consumers: TaskTracker,
    pub(crate) relays: TaskTracker,
}
