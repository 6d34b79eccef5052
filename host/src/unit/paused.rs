//! Which lanes of a plugin are paused, and why. `readyz` shows it until they continue.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The paused lanes of one plugin, each with its reason.
#[derive(Debug, Default)]
pub struct PausedLanes(Mutex<BTreeMap<&'static str, String>>);

impl PausedLanes {
    /// Records why `what` is paused. Returns whether it was not paused before.
    pub fn pause(&self, what: &'static str, reason: String) -> bool {
        self.0.lock().insert(what, reason).is_none()
    }

    /// Records that `what` continues. Returns whether it was paused.
    pub fn resume(&self, what: &'static str) -> bool {
        self.0.lock().remove(what).is_some()
    }

    /// Whether `what` is paused.
    #[must_use]
    pub fn is_paused(&self, what: &str) -> bool {
        self.0.lock().contains_key(what)
    }

    /// One sentence for each that is paused.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.0.lock().iter().map(|(what, reason)| format!("{what} paused, retrying: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::PausedLanes;

    #[test]
    fn a_pause_begins_and_ends_once() {
        let paused = PausedLanes::default();
        assert!(paused.pause("deliveries", "no disk".into()) && !paused.pause("deliveries", "no net".into()));
        assert_eq!(paused.reasons(), ["deliveries paused, retrying: no net"]);
        assert!(paused.resume("deliveries") && !paused.resume("deliveries"));
        assert_eq!(paused.reasons(), [""; 0]);
    }
}
