//! The routes of all plugins that are known, whether they run or not.

use std::sync::Arc;

use super::{
    not_running::NotRunning,
    outcome,
    router::{Endpoint, Resource, RouteDraft, RouteError, Routes, Target},
};
use crate::{model::manifest::RouteName, problem::Problem};

/// The plugin of a route.
#[derive(Clone, Debug)]
pub enum RouteOwner {
    /// It runs.
    Running(Arc<Target>),
    /// It does not run.
    NotRunning(Arc<NotRunning>),
}

/// Why a path that no route matches may be one all the same.
#[derive(Clone, Debug)]
enum Incomplete {
    Starting,
    Unknown(Arc<NotRunning>),
}

/// The routes of all plugins that are known.
#[derive(Debug)]
pub struct RouteTable {
    routes: Routes<RouteOwner>,
    incomplete: Option<Incomplete>,
}

impl RouteTable {
    /// The table of a host that starts: no route is known yet.
    #[must_use]
    pub fn starting() -> Self {
        Self { routes: Routes::default(), incomplete: Some(Incomplete::Starting) }
    }

    /// The routes of these plugins' active versions, and of plugins that do not run. The table is incomplete
    /// while the host `is_starting`, or when the routes of a plugin cannot be known.
    ///
    /// # Errors
    /// The first route that cannot be served.
    pub fn build(
        running: &[Arc<Endpoint>],
        not_running: &[NotRunning],
        is_starting: bool,
    ) -> Result<Self, RouteError> {
        let mut routes = RouteDraft::default();
        for endpoint in running {
            for route in &endpoint.versions.active().version.manifest.routes {
                let name = RouteName { method: route.method.clone(), path: route.path.clone() };
                let target = Arc::new(Target {
                    endpoint: Arc::clone(endpoint),
                    route: Arc::new(name),
                    read: route.read,
                });
                routes.add(&endpoint.plugin, route, RouteOwner::Running(target))?;
            }
        }
        let mut incomplete = is_starting.then_some(Incomplete::Starting);
        for plugin in not_running {
            let owner = Arc::new(plugin.clone());
            let Some(known) = &plugin.routes else {
                incomplete = incomplete.or(Some(Incomplete::Unknown(owner)));
                continue;
            };
            for route in known {
                // Where a plugin that runs answers the route, or the path is malformed, there is nothing to
                // announce.
                let _taken = routes.add(&plugin.plugin, route, RouteOwner::NotRunning(owner.clone()));
            }
        }
        Ok(Self { routes: routes.finish()?, incomplete })
    }

    /// The resource at a path, and the values of the path; see [`Routes::find`].
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Option<(&Resource<RouteOwner>, Vec<&'p str>)> {
        self.routes.find(path)
    }

    /// The answer to a request that no route matches, while not all routes are known.
    #[must_use]
    pub fn incomplete(&self) -> Option<Problem> {
        self.incomplete.as_ref().map(|incomplete| match incomplete {
            Incomplete::Starting => outcome::starting(),
            Incomplete::Unknown(plugin) => outcome::not_running(&plugin.plugin, plugin.cause),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{NotRunning, RouteOwner, RouteTable};
    use crate::{ingress::http::not_running::Cause, model::manifest::Route};

    fn route(method: &str, path: &str) -> Route {
        Route { method: method.into(), path: path.into(), read: false }
    }

    #[test]
    fn a_plugin_that_does_not_run_keeps_its_routes() {
        let plugin = |name: &str, routes: Option<Vec<Route>>| NotRunning {
            plugin: name.into(),
            cause: Cause::Outage,
            routes,
        };
        let known = [plugin("one", Some(vec![route("GET", "/a"), route("POST", "malformed")]))];
        let table = RouteTable::build(&[], &known, false).unwrap();
        let (resource, _) = table.find("/a").unwrap();
        assert!(matches!(resource.method("GET"), Some(RouteOwner::NotRunning(of)) if of.plugin == "one"));
        assert!(table.find("/b").is_none() && table.incomplete().is_none());
        let unknown = [known[0].clone(), plugin("two", None)];
        let problem = RouteTable::build(&[], &unknown, false).unwrap().incomplete().unwrap();
        assert_eq!(problem.status, 503);
        assert!(problem.detail().starts_with("two does not run: Postgres or Kafka"), "{}", problem.detail());
        let starting = RouteTable::build(&[], &unknown, true).unwrap().incomplete().unwrap();
        assert!(starting.detail().contains("starting"), "{}", starting.detail());
    }
}
