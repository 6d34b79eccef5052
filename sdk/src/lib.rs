//! What a saga-host plugin in Rust is written with.

pub mod bindings;
