//! Which versions of a plugin run on this host: the active one, those that drain, and what the database stores.

pub mod draining;
pub(crate) mod registry;
pub mod rollback_guard;
pub mod running;
