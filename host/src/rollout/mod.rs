//! From a component's bytes to the version that runs: deploying, going back, following other hosts.

pub mod deploy;
mod drain;
pub mod folder;
mod kept;
mod launch;
pub mod service;
pub mod shared;
pub(crate) mod tasks;
pub(crate) mod watch;
