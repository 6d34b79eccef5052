//! The host API, on a listener of its own: what operators and the command line see of a running host. It
//! reads, deploys and redrives; it never handles a delivery itself. `openapi.json` describes it.

mod access;
mod database;
mod failure;
mod health;
mod ignored;
mod kafka_probe;
mod metrics;
mod openapi;
mod paging;
mod parked;
mod path;
mod plugins;
mod sagas;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    handler::Handler,
    middleware,
    routing::{self, MethodRouter},
};
use hyper_util::service::TowerToHyperService;

use self::kafka_probe::KafkaProbe;
use crate::rollout::{Rollout, services::Services};
pub(crate) use access::Access;
pub use access::check_exposure;

/// The API answers 413 to a larger component.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// The state that axum hands to each handler.
#[derive(Clone)]
struct Admin {
    services: Arc<Services>,
    rollout: Arc<Rollout>,
    kafka: Arc<KafkaProbe>,
    component_within: Duration,
}

/// One operation of the API.
struct ApiRoute {
    #[cfg_attr(not(test), allow(dead_code, reason = "compared with openapi.json by a test"))]
    method: &'static str,
    path: &'static str,
    handler: MethodRouter<Admin>,
}

impl ApiRoute {
    fn get<T: 'static>(path: &'static str, handler: impl Handler<T, Admin>) -> Self {
        Self { method: "get", path, handler: routing::get(handler) }
    }

    fn post<T: 'static>(path: &'static str, handler: impl Handler<T, Admin>) -> Self {
        Self { method: "post", path, handler: routing::post(handler) }
    }

    fn put<T: 'static>(path: &'static str, handler: impl Handler<T, Admin>) -> Self {
        Self { method: "put", path, handler: routing::put(handler) }
    }
}

fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::get("/healthz", health::alive),
        ApiRoute::get("/readyz", health::ready),
        ApiRoute::get("/metrics", metrics::metrics),
        ApiRoute::get("/openapi.json", openapi::document),
        ApiRoute::get("/v1/plugins", plugins::list),
        ApiRoute::get("/v1/plugins/{name}", plugins::one),
        ApiRoute::put("/v1/plugins/{name}", plugins::deploy),
        ApiRoute::post("/v1/plugins/{name}/activate", plugins::activate),
        ApiRoute::post("/v1/plugins/{name}/rollback", plugins::roll_back),
        ApiRoute::get("/v1/sagas", sagas::search),
        ApiRoute::get("/v1/sagas/{type}/{key}", sagas::timeline),
        ApiRoute::get("/v1/ignored", ignored::page),
        ApiRoute::get("/v1/parked", parked::list),
        ApiRoute::post("/v1/parked/redrive", parked::redrive_many),
        ApiRoute::get("/v1/parked/{id}", parked::one),
        ApiRoute::post("/v1/parked/{id}/redrive", parked::redrive),
        ApiRoute::post("/v1/parked/{id}/discard", parked::discard),
    ]
}

/// The API as a service. `component_within` is how soon a component must have arrived.
pub(crate) fn service(
    access: Access,
    rollout: Arc<Rollout>,
    component_within: Duration,
) -> TowerToHyperService<Router> {
    let kafka = Arc::new(KafkaProbe::new(rollout.launcher.topics.cluster().clone()));
    let services = rollout.services.clone();
    let router =
        routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    let router = router
        .layer(middleware::from_fn_with_state(Arc::new(access), access::check))
        .layer(middleware::map_response(failure::as_problem))
        .with_state(Admin { services, rollout, kafka, component_within });
    TowerToHyperService::new(router)
}
