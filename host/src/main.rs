//! The `saga-host` program. Everything but the allocator is in the library.

/// A unit makes many small allocations and often frees them on another thread, which mimalloc does fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    saga_host::cli::main()
}
