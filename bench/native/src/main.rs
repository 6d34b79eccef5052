//! `saga-host-native`: the command line of `saga-host`, in which the plugins of the order system run as
//! native code instead of the components of the same names. Beside `saga-host` it tells what WebAssembly
//! costs; it is of no other use.
//!
//! ```text
//!  host ── deliveries, requests ──▶ lower ──▶ plugin ── what it imports ──▶ imports ── lift ──▶ the host's capabilities
//! ```
//!
//! What crosses is copied once where a component copies it too, out of the host's memory or into it: a batch,
//! and what is handed to an import. What the host gives away (answers of SQL) is moved, and what the plugin
//! returns is moved back.
//!
//! All of that passes here, so it can be counted here, in bytes: [`crossing`].
//!
//! What keeps the two from being quite alike: these copies, and a thread that is blocked for each call, are
//! in the native figure too and make WebAssembly look cheaper than it is. So does the WASI context, which
//! each call has here without need.

mod crossing;
mod imports;
mod lift;
mod lower;
mod plugin;

use std::process::ExitCode;

/// As `saga-host` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    eprintln!("saga-host-native is for measuring only: its plugins are native code, which no limit stops");
    saga_host::plugin::native::install(plugin::find);
    let ended = saga_host::cli::main();
    plugin::tell_crossings();
    ended
}
