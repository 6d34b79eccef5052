//! `saga-host`: everything is in the library.

fn main() -> std::process::ExitCode {
    saga_host::cli::main()
}
