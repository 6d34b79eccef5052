//! Entry points of the fuzz targets in `fuzz/`: each takes any bytes and must not panic, hang, or allocate
//! without a bound. Compiled for fuzzing and for unit tests, which replay the seeds; never part of a product.

#![allow(clippy::expect_used, reason = "a fuzz target fails by a panic")]

use std::sync::{Arc, LazyLock};

use tokio::runtime::{Builder, Runtime};

use crate::{
    model::{
        dedup::{DedupMark, DedupMarks},
        policy::Policy,
        record::{decode, encode},
    },
    plugin::{engine::Engine, version::Version},
};

pub use crate::{
    capability::postgres::fuzz::values as sql_values, ingress::http::fuzz::request as http_request,
    ingress::kafka::fuzz::record,
};

/// An entry point.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its file in `fuzz/fuzz_targets` and of its folder of seeds.
pub const TARGETS: [(&str, Target); 7] = [
    ("record", record),
    ("marks", marks),
    ("outbox_body", outbox_body),
    ("policy", policy),
    ("sql_values", sql_values),
    ("http_request", http_request),
    ("component", component),
];

/// A line with a `ce_source`, a line with a `ce_id`, and the stored text of a partition's dedup marks. What is
/// read is written as it was.
pub fn marks(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (id, stored) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut raised = DedupMarks::default();
    if let Some(mark) = DedupMark::of_record(source.as_bytes(), id) {
        assert!(raised.raise(&mark), "a first mark is new");
        assert!(!raised.raise(&mark), "the same mark is a repeat");
        assert_eq!(raised.to_text(), id, "a mark is stored as its id");
        assert_eq!(DedupMarks::from_text(id), Some(raised), "a stored mark can be read again");
        let _reason = mark.implausible(1_795_375_680_123);
    }
    if let Some(marks) = DedupMarks::from_text(stored) {
        assert_eq!(DedupMarks::from_text(&marks.to_text()), Some(marks), "stored marks can be read again");
    }
}

/// The body of an outbox row.
pub fn outbox_body(data: &[u8]) {
    let Ok(records) = decode(data) else { return };
    let Ok(body) = encode(&records) else { return };
    assert_eq!(decode(&body).ok(), Some(records), "a body decodes to what was encoded");
}

/// A policy file.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Policy::parse("orders", text) {
        Ok(policy) => assert_eq!(policy.name, "orders", "the file names its plugin"),
        Err(rejection) => assert!(!rejection.to_string().contains('\0'), "an error is text for a person"),
    }
}

/// A component file, up to the check of its manifest.
pub fn component(data: &[u8]) {
    static HOST: LazyLock<(Runtime, Engine, Arc<Policy>)> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let cache = std::env::temp_dir().join(format!("saga-host-fuzz-{}", std::process::id()));
        let policy = Policy::parse("orders", "name = \"orders\"\n[database]\nname = \"orders\"\n");
        (runtime, Engine::new(cache).expect("an engine"), Arc::new(policy.expect("a policy")))
    });
    let (runtime, engine, policy) = &*HOST;
    if let Err(rejection) = runtime.block_on(Version::load(engine, "orders", data, policy.clone())) {
        assert!(!rejection.to_string().is_empty(), "a rejection says what is wrong");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_seed_passes() {
        for (name, target) in super::TARGETS {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
            let files: Vec<_> = fs::read_dir(&seeds).unwrap().collect::<Result<_, _>>().unwrap();
            assert!(!files.is_empty(), "{} has no seed", seeds.display());
            for file in files {
                target(&fs::read(file.path()).unwrap());
            }
        }
    }
}
