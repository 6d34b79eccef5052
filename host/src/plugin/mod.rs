//! Plugins: from a file in the plugin folder to one instance in a unit of work.

pub mod bindings;
pub mod call;
pub mod engine;
pub mod manifest;
pub mod policy;
pub mod version;

pub use policy::Policy;
