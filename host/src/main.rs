//! `saga-host`: everything is in the library.

/// A unit is many small allocations that end together, on another thread as often as not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    saga_host::cli::main()
}
