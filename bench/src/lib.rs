//! Loads a running saga-host and measures it, only from outside: HTTP, Kafka, SQL and `/proc`. It shares no
//! code with the host, so it cannot repeat a mistake of the host.
//!
//! ```text
//!  load, compare, growth, ──▶ saga_testkit: target, caller, connection, topic, database, verify
//!  backlog, idle, chaos   ──▶ machine, latency
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod backlog;
pub mod chaos;
pub mod chart;
pub mod compare;
pub mod growth;
pub mod idle;
pub mod latency;
pub mod load;
pub mod machine;
pub mod sample;
