//! The plugin that misbehaves on request (`host/tests/guest`), with a policy of small limits.

use std::path::Path;

use saga_testkit::{plugin_folder::replace, target::Target};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

pub(crate) const PLUGIN: &str = "misbehaving";
/// The topic that it reads: the value of a record names the misbehaviour.
pub(crate) const TOPIC: &str = "misbehaviour-topic";
/// Receives one message for each request or record that was handled.
pub(crate) const DONE: &str = "well-behaved-topic";

pub(crate) const POLICY: &str = r#"
name = "misbehaving"
[database]
name = "misbehaving"
[kafka]
read = ["misbehaviour-topic"]
write = ["well-behaved-topic"]
[http]
routes = ["POST /misbehave/{how}"]
[limits]
memory_mib_max = 16
guest_ms_max = 100
unit_ms_max = 1000
statements_max = 8
rows_max = 1000
sort_memory_mib_max = 1
temp_files_mib_max = 16
publish_messages_max = 100
attempts_max = 1
"#;

/// Each misbehaviour, and what the host reports: whose fault it is, and which limit was exceeded.
pub(crate) const MISBEHAVIOURS: [(&str, &str); 18] = [
    ("trap", "panicked at host/tests/guest/src/misbehaviour.rs"),
    ("exit", "it called exit("),
    ("loop", "runs longer than guest_ms_max = 100 ms"),
    ("sleep", "a plugin cannot sleep"),
    ("allocate", "MiB of memory, over memory_mib_max = 16"),
    ("recurse", "call stack exhausted"),
    ("miscount", "gave 0 answers to a batch of 1"),
    ("publish-elsewhere", "misbehaving.toml does not grant order-created-topic in [kafka] write"),
    ("publish-many", "more than publish_messages_max = 100 messages in one call"),
    ("publish-for-another", "in a batch of 1"),
    ("state-often", "more than statements_max = 8 SQL statements in one call"),
    ("select-many", "more than 1000 rows (rows_max)"),
    ("sleep-in-sql", "unit_ms_max = 1000 ms"),
    ("bad-sql", r#"relation "nowhere" does not exist"#),
    (
        "commit",
        "a statement must start with SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, WITH; found COMMIT",
    ),
    ("spill", "temporary file size exceeds temp_file_limit"),
    ("lone-surrogate", "malformed: data or answer is not JSON"),
    ("hide-an-error", "returned success after a failed statement"),
];

/// Adds it to a folder of plugins.
pub(crate) fn add(folder: &Path) {
    std::fs::write(folder.join("misbehaving.toml"), POLICY).unwrap();
    std::fs::write(folder.join("misbehaving.wasm"), component()).unwrap();
}

/// A connection to its database.
pub(crate) async fn database(target: &Target) -> PgConnection {
    let options = target.postgres.parse::<PgConnectOptions>().unwrap().database(PLUGIN);
    options.disable_statement_logging().connect().await.unwrap()
}

/// Replaces it with a version in another mood.
pub(crate) fn turn(folder: &Path, mood: &str) {
    replace(&folder.join("misbehaving.wasm"), &in_mood(mood)).unwrap();
}

/// The component in another mood, of four letters.
pub(crate) fn in_mood(mood: &str) -> Vec<u8> {
    let (good, other) = (b"mood:good", format!("mood:{mood}"));
    let mut component = component();
    let mut changed = 0;
    for place in 0..component.len() - good.len() {
        if component[place..].starts_with(good) {
            component[place..place + other.len()].copy_from_slice(other.as_bytes());
            changed += 1;
        }
    }
    assert!(changed > 0, "the component has no mood");
    component
}

fn component() -> Vec<u8> {
    built(PLUGIN)
}

/// The component of a plugin of the tests.
pub(crate) fn built(name: &str) -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = target.join(format!("wasm32-wasip2/plugin/{name}.wasm"));
    std::fs::read(&built).unwrap_or_else(|error| {
        let build = "cargo build --profile plugin --target wasm32-wasip2 -p misbehaving -p booking -p trip";
        panic!("{}: {error}; build it first: {build}", built.display())
    })
}
