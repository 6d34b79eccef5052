//! Limits of HTTP callers: how many connections, and how long each phase of one may take.

use std::time::Duration;

use anyhow::ensure;

/// Limits of the callers of both listeners. Each is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Open connections of the service routes.
    pub http_connections_max: u32,
    /// Open connections of the host API.
    pub admin_connections_max: u32,
    /// Seconds in which a new connection must have sent the header of its first request.
    pub header_s_max: u32,
    /// Seconds in which the body of a request to a service route must arrive.
    pub body_s_max: u32,
    /// Seconds in which the body of a request to the host API must arrive, a component.
    pub component_s_max: u32,
    /// Seconds that a connection stays open without a request in progress.
    pub idle_s_max: u32,
    /// Requests at a time in one HTTP/2 connection.
    pub streams_max: u32,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self {
            http_connections_max: 2048,
            admin_connections_max: 64,
            header_s_max: 10,
            body_s_max: 10,
            component_s_max: 120,
            idle_s_max: 60,
            streams_max: 256,
        }
    }
}

impl CallerLimits {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [
            ("http_connections_max", self.http_connections_max),
            ("admin_connections_max", self.admin_connections_max),
            ("header_s_max", self.header_s_max),
            ("body_s_max", self.body_s_max),
            ("component_s_max", self.component_s_max),
            ("idle_s_max", self.idle_s_max),
            ("streams_max", self.streams_max),
        ] {
            ensure!(value > 0, "{name} = {value} must be at least 1");
        }
        Ok(())
    }

    /// As a duration.
    #[must_use]
    pub fn body_within(&self) -> Duration {
        Duration::from_secs(self.body_s_max.into())
    }

    /// As a duration.
    #[must_use]
    pub fn component_within(&self) -> Duration {
        Duration::from_secs(self.component_s_max.into())
    }
}
