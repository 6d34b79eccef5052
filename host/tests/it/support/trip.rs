//! The plugins of a saga of two steps: `trip` decides (`host/tests/trip`), `booking` takes part
//! (`host/tests/booking`).

use std::path::Path;

use saga_testkit::plugin_folder::replace;

use super::guest::built;

pub(crate) const TRIP: &str = "trip";
pub(crate) const BOOKING: &str = "booking";
/// Their plugins, which are also their databases.
pub(crate) const PLUGINS: [&str; 2] = [TRIP, BOOKING];
pub(crate) const TOPICS: [&str; 2] = ["trip-requests-topic", "trip-replies-topic"];

const TRIP_POLICY: &str = r#"
name = "trip"
[database]
name = "trip"
[kafka]
read = ["trip-replies-topic"]
write = ["trip-requests-topic"]
[http]
routes = ["POST /trips"]
[config]
deadline_s = "1"
"#;

const BOOKING_POLICY: &str = r#"
name = "booking"
[database]
name = "booking"
[kafka]
read = ["trip-requests-topic"]
write = ["trip-replies-topic"]
"#;

/// Adds one of them to a folder of plugins, the component last.
pub(crate) fn add(folder: &Path, plugin: &str) {
    let policy = if plugin == TRIP { TRIP_POLICY } else { BOOKING_POLICY };
    std::fs::write(folder.join(format!("{plugin}.toml")), policy).unwrap();
    replace(&folder.join(format!("{plugin}.wasm")), &built(plugin)).unwrap();
}
