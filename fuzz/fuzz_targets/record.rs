#![no_main]
//! See `saga_host::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| saga_host::fuzz::record(data));
