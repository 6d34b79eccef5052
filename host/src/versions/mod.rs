//! Which versions of a plugin run on this host: the active one, those that drain, and what the registry in
//! the database stores.

pub mod draining;
pub mod loader;
pub mod plugin_versions;
pub(crate) mod registry;
pub mod rollback_guard;
pub mod running;

pub use plugin_versions::PluginVersions;
