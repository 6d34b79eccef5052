//! From a component's bytes to the version that runs on every host.
//!
//! ```text
//!  file changed, host API ──▶ deploy ──┐                            ┌──▶ launch (first version of a plugin)
//!  rollback, guard ────────▶ activate ─┼─▶ check, provision, record ┤
//!  another host's activation ▶ follow ─┘   in the registry          └──▶ versions.activate
//! ```
//!
//! All of these run one at a time. A failure before the activation is recorded leaves the active version
//! running.

mod databases;
pub mod deploy;
mod drain;
mod folder;
mod follow;
mod guard;
mod launch;
mod not_running;
mod rollback;
pub mod service;
pub mod services;
mod start;
pub(crate) mod tasks;
mod unmigrated;
mod watch;

use std::{path::PathBuf, sync::Arc};

pub(crate) use databases::Databases;
pub(crate) use launch::Launcher;

use self::services::Services;

/// Changes which versions run.
#[derive(Debug)]
pub struct Rollout {
    /// The plugins that run here.
    pub(crate) services: Arc<Services>,
    pub(crate) databases: Databases,
    pub(crate) launcher: Launcher,
    /// Folder of components and policies.
    pub(crate) folder: PathBuf,
    /// Whether a missing policy file is written with what the plugin asks for. Otherwise the plugin is
    /// refused.
    pub(crate) write_policies: bool,
    /// Held during each change.
    pub(crate) one_at_a_time: tokio::sync::Mutex<()>,
}
