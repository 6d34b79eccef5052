//! Checks a running saga-host only from outside: HTTP, Kafka and SQL. It shares no code with the host, so it
//! cannot repeat a mistake of the host.
//!
//! ```text
//!  contract, verify, demo ──▶ target (addresses) ──┬─▶ caller, connection   HTTP
//!  host_process, proxy        report (outcomes)    ├─▶ topic                Kafka
//!                                                  ├─▶ database, quiet      SQL
//!                                                  └─▶ process              /proc
//!  wrong_clock   a host whose clock is wrong
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod caller;
pub mod connection;
pub mod contract;
pub mod costs;
pub mod database;
pub mod demo;
pub mod host_process;
pub mod output;
pub mod plugin_folder;
pub mod process;
pub mod proxy;
pub mod quiet;
pub mod report;
pub mod service;
pub mod target;
pub mod topic;
pub mod verify;
pub mod wrong_clock;
