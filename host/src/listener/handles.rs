//! The file handles of the process: as many as the system allows, of which callers get only a part.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File handles that stay for the host: its connections to Postgres and Kafka, components, pipes.
const RESERVED: usize = 512;
/// Part of the handles for callers that the host API may use, at most.
const ADMIN_PART: usize = 8;

/// Raises the limit of open files to what the system allows; returns it.
#[must_use]
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// How many connections the service routes and the host API may have: what is configured, unless the process
/// may open too few files.
#[must_use]
pub fn connections(files_max: usize, http_max: usize, admin_max: usize) -> (usize, usize) {
    let for_callers = files_max.saturating_sub(RESERVED).max(files_max / 2);
    let admin = admin_max.min(for_callers / ADMIN_PART).max(1);
    let http = http_max.min(for_callers.saturating_sub(admin)).max(1);
    if (http, admin) != (http_max, admin_max) {
        tracing::warn!(
            files_max,
            http_connections_max = http,
            admin_connections_max = admin,
            "fewer connections than configured: this process may open too few files; raise ulimit -n to {}",
            RESERVED.saturating_add(http_max).saturating_add(admin_max)
        );
    }
    (http, admin)
}

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn file_handles_are_left_for_the_host() {
        for (files_max, http, admin) in [
            (usize::MAX, 2048, 64),
            (65_536, 2048, 64),
            (2624, 2048, 64),
            (2000, 1424, 64),
            (1024, 448, 64),
            (256, 112, 16),
            (0, 1, 1),
        ] {
            assert_eq!(connections(files_max, 2048, 64), (http, admin), "{files_max}");
        }
    }
}
