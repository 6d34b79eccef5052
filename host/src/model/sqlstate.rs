//! SQLSTATEs: those that the host's own functions raise, and what an error says about its cause. Who ran the
//! statement decides: the same code of a guest's statement and of the host's has different causes.
//!
//! `migrations/host/0001_base.sql` has the same list of the host's own. They mean that a unit lost a race or
//! its lease; a guest never causes one by a statement of the host's. What a guest sees of them is the reason
//! of a culprit, `saga-conflict`: see `wit/sagas.wit`.

/// `saga.open`: the lane is not at the expected epoch and unit, since another host has acquired its lease.
pub const LANE_LOST: &str = "SG100";

/// `saga.flush`: a saga to start exists. DETAIL has one line for each: `type/key`.
pub const SAGA_EXISTS: &str = "SG101";

/// `saga.flush`: a saga is not at the expected revision. DETAIL has one line for each:
/// `type/key: expected revision E, actual revision A`; A is `none` when no such saga is live.
pub const REVISION_CONFLICT: &str = "SG102";

/// `saga.flush`: the token is not that of the lane lease.
pub const NOT_LEASE_HOLDER: &str = "SG103";

/// A row is locked, and `lock_timeout` has passed.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Who ran a statement, and what of it can be a plugin's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The host's own, without a value of the guest: BEGIN, fences, stored answers, ROLLBACK.
    Host,
    /// The host's own, which locks rows of single keys: sagas, parked deliveries, timers.
    HostLocks,
    /// The host's own with values that the guest has chosen: `saga.flush`.
    HostValues,
    /// The guest's. COMMIT counts as such, since constraints and triggers of the plugin's tables may fire in
    /// it; those of the host never do.
    Guest,
}

/// What an error of Postgres says about its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server, the network, the schema or the grants.
    Environment,
    /// Another host has acquired the lease of the lane.
    LaneLost,
    /// The guest's statement, or a value that it has chosen.
    Guest,
    /// The environment or the guest: the error alone does not tell.
    Unclear(Unclear),
}

/// Errors of a guest's statement that the environment causes, and that a guest can cause or raise, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// A conflict with another transaction, which another run usually settles.
    Conflict,
    /// Somebody else has locked a row for longer than `lock_timeout`.
    Lock,
    /// It took longer than it may.
    Timeout,
    /// Connections, resources, storage, rights: whatever else can be wrong with a server.
    Server,
    /// The connection is lost, or the server process has ended, during a statement of the guest's.
    SessionEnded,
}

impl Statement {
    /// The cause of an error. `ends_session` is true when the connection is lost or Postgres has closed it
    /// (severity FATAL).
    #[must_use]
    pub fn cause(self, sqlstate: &str, ends_session: bool) -> Cause {
        match self {
            // No statement of the host's can make it do that, but one that takes all memory can.
            Self::Guest if ends_session => Cause::Unclear(Unclear::SessionEnded),
            _ if ends_session => Cause::Environment,
            Self::Guest => of_guest(sqlstate),
            _ if [LANE_LOST, NOT_LEASE_HOLDER].contains(&sqlstate) => Cause::LaneLost,
            Self::HostLocks if sqlstate == LOCK_NOT_AVAILABLE => Cause::Unclear(Unclear::Lock),
            Self::HostValues if is_value(sqlstate) => Cause::Guest,
            Self::Host | Self::HostLocks | Self::HostValues => Cause::Environment,
        }
    }
}

/// Data exceptions, a key twice, a value that is too large for its index.
fn is_value(sqlstate: &str) -> bool {
    ["21", "22", "54"].iter().any(|class| sqlstate.starts_with(class)) || sqlstate == "23505"
}

fn of_guest(sqlstate: &str) -> Cause {
    let is_of = |classes: &[&str]| classes.iter().any(|class| sqlstate.starts_with(class));
    match sqlstate {
        "40001" | "40P01" => Cause::Unclear(Unclear::Conflict),
        LOCK_NOT_AVAILABLE => Cause::Unclear(Unclear::Lock),
        "57014" => Cause::Unclear(Unclear::Timeout),
        // The server is read-only, as after a failover; a right was revoked.
        "25006" | "42501" => Cause::Unclear(Unclear::Server),
        // The limit on temporary files: the environment has no other limit of this code.
        "53400" => Cause::Guest,
        _ if is_of(&["08", "53", "57", "58", "F0", "XX"]) => Cause::Unclear(Unclear::Server),
        _ => Cause::Guest,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Cause::{self, Environment, Guest, LaneLost},
        LANE_LOST, NOT_LEASE_HOLDER, REVISION_CONFLICT, SAGA_EXISTS, Statement,
        Unclear::{Conflict, Lock, Server, SessionEnded, Timeout},
    };

    #[test]
    fn the_schema_raises_these_and_no_others() {
        let schema = include_str!("../../../migrations/host/0001_base.sql");
        let raised: std::collections::BTreeSet<&str> =
            schema.split("ERRCODE = '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
        let known = [LANE_LOST, SAGA_EXISTS, REVISION_CONFLICT, NOT_LEASE_HOLDER];
        assert_eq!(raised.into_iter().collect::<Vec<_>>(), known);
    }

    /// SQLSTATE, then the cause of a statement of the host's, of its locks, of its flush, and of the guest's.
    #[test]
    fn who_ran_the_statement_decides_on_the_cause() {
        let unclear = Cause::Unclear;
        for (sqlstate, [host, locks, values, guest]) in [
            ("SG100", [LaneLost, LaneLost, LaneLost, Guest]),
            ("SG103", [LaneLost, LaneLost, LaneLost, Guest]),
            // A partition of a day is missing.
            ("23514", [Environment, Environment, Environment, Guest]),
            // A right was revoked.
            ("42501", [Environment, Environment, Environment, unclear(Server)]),
            // A function of another release.
            ("42883", [Environment, Environment, Environment, Guest]),
            ("42P01", [Environment, Environment, Environment, Guest]),
            ("57014", [Environment, Environment, Environment, unclear(Timeout)]),
            ("25006", [Environment, Environment, Environment, unclear(Server)]),
            ("40001", [Environment, Environment, Environment, unclear(Conflict)]),
            ("40P01", [Environment, Environment, Environment, unclear(Conflict)]),
            ("55P03", [Environment, unclear(Lock), Environment, unclear(Lock)]),
            ("08P01", [Environment, Environment, Environment, unclear(Server)]),
            ("53100", [Environment, Environment, Environment, unclear(Server)]),
            ("53400", [Environment, Environment, Environment, Guest]),
            ("57P01", [Environment, Environment, Environment, unclear(Server)]),
            ("58030", [Environment, Environment, Environment, unclear(Server)]),
            ("XX001", [Environment, Environment, Environment, unclear(Server)]),
            ("22021", [Environment, Environment, Guest, Guest]),
            ("22008", [Environment, Environment, Guest, Guest]),
            ("23505", [Environment, Environment, Guest, Guest]),
            ("54000", [Environment, Environment, Guest, Guest]),
            ("42601", [Environment, Environment, Environment, Guest]),
            ("P0001", [Environment, Environment, Environment, Guest]),
        ] {
            use Statement::{Guest as G, Host, HostLocks, HostValues};
            for (by, expected) in [(Host, host), (HostLocks, locks), (HostValues, values), (G, guest)] {
                assert_eq!(by.cause(sqlstate, false), expected, "{sqlstate} of {by:?}");
                let ended = if by == G { unclear(SessionEnded) } else { Environment };
                assert_eq!(by.cause(sqlstate, true), ended, "{sqlstate} of {by:?}, and the session ends");
            }
        }
    }
}
