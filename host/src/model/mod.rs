//! The nouns that several layers share. Nothing here does I/O.

pub mod bindings;
pub mod correlation;
pub mod dedup;
pub mod delivery;
pub mod digits;
pub mod effects;
pub mod fault;
pub mod format;
pub mod identity;
pub mod manifest;
pub mod migration;
pub mod outcome;
pub mod partition_counts;
pub mod plugin_name;
pub mod policy;
pub mod queue;
pub mod record;
pub mod rejection;
pub mod request;
pub mod saga;
pub mod saga_log;
mod shared_text;
pub mod sqlstate;
pub mod trace;
