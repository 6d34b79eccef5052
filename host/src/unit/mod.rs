//! A unit of work: one batch, one transaction, one fresh instance of the plugin.
//!
//! ```text
//!  open ──▶ plugin ──▶ settle ──▶ close ──▶ COMMIT
//!  fences,   its two    effects    sagas,     │
//!  sagas     statements to rows    outbox     └─▶ relay, answers, waiters
//! ```
//!
//! Everything up to COMMIT leaves nothing when it fails; what failed decides what comes next
//! ([`fault::Fault`]). A unit never retries: its lane does.

pub mod close;
pub mod commit;
pub mod fault;
pub mod open;
pub mod seen;
pub mod settle;
