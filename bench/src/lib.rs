//! Looks at a running saga-host from outside only: HTTP, Kafka, SQL and `/proc`. It shares no code with the
//! host, so a mistake of the host is not repeated here.
//!
//! ```text
//!  load, compare ──┐                      ┌─ caller, connection   HTTP
//!  growth, chaos,  ┼─▶ target (addresses) ┼─ topic                Kafka
//!  verify, demo,   │                      ├─ database             SQL
//!  contract, idle ─┘                      └─ machine, process     /proc
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod backlog;
pub mod caller;
pub mod chaos;
pub mod chart;
pub mod compare;
pub mod connection;
pub mod contract;
pub mod costs;
pub mod database;
pub mod demo;
pub mod growth;
pub mod host_process;
pub mod idle;
pub mod latency;
pub mod load;
pub mod machine;
pub mod output;
pub mod process;
pub mod quiet;
pub mod report;
pub mod sample;
pub mod service;
pub mod target;
pub mod topic;
pub mod verify;
