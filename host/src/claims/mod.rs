//! What a host may write under: lane leases, and claims of partitions. Every write of a unit is fenced by
//! both. The partition counts by which lanes route records change only together with all leases.

pub mod agreed_topics;
pub mod lane_lease;
pub mod partition;
pub mod partitions;
pub mod topic;
