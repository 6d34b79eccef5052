//! The SQLSTATEs that the host's own functions raise. `migrations/host/0001_base.sql` has the same list.
//!
//! All of them mean that a unit lost a race or its lease; a guest never causes one by a statement of the
//! host's. What a guest sees of them is the reason of a culprit, `saga-conflict`: see `wit/sagas.wit`.

/// `saga.open`: the lane is not at the expected epoch and unit, since another host has acquired its lease.
pub const LANE_LOST: &str = "SG100";

/// `saga.flush`: a saga to start exists. DETAIL has one line for each: `type/key`.
pub const SAGA_EXISTS: &str = "SG101";

/// `saga.flush`: a saga is not at the expected revision. DETAIL has one line for each:
/// `type/key: expected revision E, actual revision A`; A is `none` when no such saga is live.
pub const REVISION_CONFLICT: &str = "SG102";

/// `saga.flush`: the token is not that of the lane lease.
pub const NOT_LEASE_HOLDER: &str = "SG103";

#[cfg(test)]
mod tests {
    use super::{LANE_LOST, NOT_LEASE_HOLDER, REVISION_CONFLICT, SAGA_EXISTS};

    #[test]
    fn the_schema_raises_these_and_no_others() {
        let schema = include_str!("../../../migrations/host/0001_base.sql");
        let raised: std::collections::BTreeSet<&str> =
            schema.split("ERRCODE = '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
        let known = [LANE_LOST, SAGA_EXISTS, REVISION_CONFLICT, NOT_LEASE_HOLDER];
        assert_eq!(raised.into_iter().collect::<Vec<_>>(), known);
    }
}
