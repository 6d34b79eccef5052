//! The plugin's world (`wit/`) as Rust types. Generated; what it owns is only how: imports and
//! exports are async, and what the host hands to a plugin is borrowed, so that a batch is lowered
//! into the guest's memory without being copied on the way.
//!
//! Types that cross in both directions come twice: `..Param` borrowed, `..Result` owned.

#![allow(missing_docs, reason = "generated; the documentation is in wit/")]

wasmtime::component::bindgen!({
    world: "plugin",
    path: "../wit",
    imports: { default: async | trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
