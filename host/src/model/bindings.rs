//! The plugin's world (`wit/`) as generated Rust types.
//!
//! Imports and exports are async. What the host passes to a plugin is borrowed, so that a batch is copied
//! only once, into the guest's memory. A type that crosses in both directions exists twice: `..Param`
//! borrowed, `..Result` owned.

#![allow(missing_docs, reason = "generated; the documentation is in wit/")]

wasmtime::component::bindgen!({
    world: "plugin",
    path: "../wit",
    imports: { default: async | trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
