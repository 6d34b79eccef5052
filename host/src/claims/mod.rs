//! What a host may write under: lane leases, and claims of partitions. Every write of a unit is fenced by
//! both.

pub mod lane_lease;
pub mod partition;
pub mod partitions;
