//! The plugin's world, generated from `wit/`. Only [`crate::host::Wasm`] calls the host through it.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "../wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "saga_plugin::bindings",
});
