//! One version of a plugin, ready to run: a compiled component, its manifest and its policy.

use std::sync::Arc;

use super::{
    Policy,
    call::{CallSetting, Called, Outcome, Request, Response, Session},
    engine::Engine,
    manifest::Manifest,
};
use crate::{ingress::delivery::Delivery, unit::open::LiveSaga};

/// One version of a plugin.
#[derive(Debug)]
pub struct Version {
    /// The plugin's name.
    pub plugin: String,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    /// What the plugin asks for.
    pub manifest: Manifest,
    /// What the operator grants.
    pub policy: Arc<Policy>,
}

/// Why a component cannot become a version, with the mend in it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(pub String);

impl Version {
    /// Compiles a component (or takes it from the cache), asks it what it wants and checks that.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub async fn load(
        _engine: &Engine,
        _file_stem: &str,
        _bytes: &[u8],
        _policy: Arc<Policy>,
    ) -> Result<Self, Rejection> {
        Err(Rejection(String::new()))
    }

    /// Asks a component what it wants, without a policy.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub async fn describe(_engine: &Engine, _file_stem: &str, _bytes: &[u8]) -> Result<Manifest, Rejection> {
        Err(Rejection(String::new()))
    }

    /// Hands a batch of deliveries to a fresh instance. `sagas` are those that the deliveries
    /// correlate with (type, key).
    pub async fn handle_deliveries(
        &self,
        session: Session,
        _setting: &CallSetting,
        _batch: &[&Delivery],
        _sagas: &[LiveSaga],
    ) -> Called<Vec<Outcome>> {
        Called { session: Some(session), effects: Default::default(), statements: 0, result: Ok(Vec::new()) }
    }

    /// Hands a batch of requests to a fresh instance.
    pub async fn handle_requests(
        &self,
        session: Session,
        _setting: &CallSetting,
        _batch: &[&Request],
    ) -> Called<Vec<Response>> {
        Called { session: Some(session), effects: Default::default(), statements: 0, result: Ok(Vec::new()) }
    }
}
