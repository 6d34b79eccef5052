//! Against a real Postgres and a real Kafka, which the development stack starts; the host runs as the process
//! that a user runs. No test depends on another, and none sleeps: each waits for what it can see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod bad_components;
mod cli;
mod connections;
mod consumer;
mod contract;
mod costs;
mod crash;
mod credentials;
mod deadline;
mod deploy;
mod faults;
mod golden;
mod hand_over;
mod http_input;
mod identity;
mod isolation;
mod midnight;
mod misbehaving;
mod outage;
mod pinning;
mod relay;
mod rights;
mod rollback_guard;
mod sql;
mod start;
mod support;
mod topics;
mod two_hosts;
mod unknown_outcome;
mod upgrade;
