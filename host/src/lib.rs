//! The saga host: delivery, transactions, deduplication, order, deadlines and limits for sagas whose
//! decisions are WebAssembly components. Start reading with `ARCHITECTURE.md`.

pub mod admin;
pub mod capability;
pub mod claims;
pub mod cli;
mod clock;
pub mod config;
pub mod fault_point;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod ingress;
pub mod kafka;
pub mod lane;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod model;
pub mod plugin;
pub mod problem;
pub mod relay;
pub mod rollout;
pub mod runtime;
pub mod sabotage;
pub mod store;
pub mod supervise;
pub mod unit;
pub mod versions;
