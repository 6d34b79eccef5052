//! Which lanes of a plugin are paused, and why: `readyz` shows it until they continue. One log line says when a
//! pause begins, and one when it ends.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The paused lanes of one plugin, each with its reason.
#[derive(Debug)]
pub struct PausedLanes {
    plugin: String,
    reasons: Mutex<BTreeMap<&'static str, String>>,
}

impl PausedLanes {
    /// None is paused.
    #[must_use]
    pub fn new(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), reasons: Mutex::default() }
    }

    /// Records why `what` is paused.
    pub fn pause(&self, what: &'static str, reason: &str) {
        if self.reasons.lock().insert(what, reason.to_owned()).is_none() {
            let plugin = &self.plugin;
            tracing::warn!(plugin, reason, "{what} paused; retrying until the cause is removed");
        }
    }

    /// Records that `what` continues.
    pub fn resume(&self, what: &'static str) {
        if self.reasons.lock().remove(what).is_some() {
            tracing::info!(plugin = self.plugin, "{what} continue");
        }
    }

    /// Whether `what` is paused.
    #[must_use]
    pub fn is_paused(&self, what: &str) -> bool {
        self.reasons.lock().contains_key(what)
    }

    /// One sentence for each that is paused.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.reasons
            .lock()
            .iter()
            .map(|(what, reason)| format!("{what} paused, retrying: {reason}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::PausedLanes;

    #[test]
    fn the_latest_reason_of_a_pause_is_shown_until_it_ends() {
        let paused = PausedLanes::new("orders");
        paused.pause("deliveries", "no disk");
        paused.pause("deliveries", "no net");
        assert!(paused.is_paused("deliveries") && !paused.is_paused("requests"));
        assert_eq!(paused.reasons(), ["deliveries paused, retrying: no net"]);
        paused.resume("deliveries");
        assert_eq!(paused.reasons(), [""; 0]);
    }
}
