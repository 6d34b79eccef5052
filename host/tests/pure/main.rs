//! What the pure parts of the path cost per message, against `costs.toml`: allocations, and instructions
//! where the build is optimised. Neither depends on time, and both are the same on a busy machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod parts;

use std::{env, fs, path::Path, process::Command};

use parts::{MESSAGES, PARTS, Part};
use saga_testkit::costs::Costs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs.toml");
/// Names the part that a process under Valgrind runs.
const ONLY: &str = "SAGA_HOST_PURE_PART";

fn judge(section: &str, measure: impl Fn(&Part) -> u64) {
    let per_message = |part: &Part| (part.name.to_owned(), measure(part) as f64 / MESSAGES as f64);
    let measured: Vec<_> = PARTS.iter().map(per_message).collect();
    let judged = Costs::read(Path::new(FILE), section).unwrap().judge(&measured);
    eprintln!("{}", judged.unwrap_or_else(|error| panic!("{error:#}")));
}

/// The counted work. Callgrind finds it by this name.
#[inline(never)]
fn counted_work(work: Box<dyn FnOnce()>) {
    work();
}

#[test]
fn allocations() {
    judge("allocations-per-message", |part| {
        // The first call of anything may set up what the others share.
        counted_work((part.prepare)());
        let work = (part.prepare)();
        allocation_counter::measure(|| counted_work(work)).count_total
    });
}

#[test]
#[cfg_attr(
    any(debug_assertions, not(target_arch = "x86_64")),
    ignore = "needs Valgrind and an optimised build, on x86_64: ./dev costs"
)]
fn instructions() {
    judge("instructions-per-message", |part| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let valgrind = Command::new("valgrind")
            .args(["--tool=callgrind", "--toggle-collect=*counted_work*"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(env::current_exe().unwrap())
            .args(["--exact", "one_part", "--ignored", "--test-threads=1"])
            .env(ONLY, part.name)
            .output()
            .unwrap_or_else(|error| {
                panic!("valgrind: {error}; install it, for example: apt-get install valgrind")
            });
        let printed = String::from_utf8_lossy(&valgrind.stderr);
        assert!(valgrind.status.success(), "{}: {printed}", part.name);
        let counts = fs::read_to_string(out).unwrap();
        let total =
            counts.lines().find_map(|line| line.strip_prefix("totals: ")).expect("Callgrind prints a total");
        total.trim().parse().unwrap()
    });
}

#[test]
#[ignore = "is what `instructions` runs under Valgrind"]
fn one_part() {
    let Ok(name) = env::var(ONLY) else { return };
    let part = PARTS.iter().find(|part| part.name == name).expect("no such part");
    counted_work((part.prepare)());
}
