//! The service routes: requests in, problem details or answers out.

pub mod pending;
pub mod waiters;
