//! Plugins that are known and do not run on this host. Their routes are answered 503 with a reason: an outage
//! is never answered as "no such route".

use crate::model::manifest::Route;

/// Why a plugin does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Postgres or Kafka is not available. The plugin starts by itself when they are.
    Outage,
    /// Its version cannot run here.
    Refused,
    /// It has a policy, but no version was deployed.
    NotDeployed,
}

impl Cause {
    /// For callers, who learn nothing about databases, topics or policies.
    #[must_use]
    pub fn for_callers(self) -> &'static str {
        match self {
            Self::Outage => "Postgres or Kafka is not available; it starts by itself, try again",
            Self::Refused => "this host cannot run its version; the operator finds the reason in /readyz",
            Self::NotDeployed => "no version of it was deployed",
        }
    }
}

/// A plugin that does not run, and its routes.
#[derive(Clone, Debug)]
pub struct NotRunning {
    /// The plugin.
    pub plugin: String,
    /// Why it does not run.
    pub cause: Cause,
    /// The routes that it would answer; none when neither its policy nor its component can be read.
    pub routes: Option<Vec<Route>>,
}
