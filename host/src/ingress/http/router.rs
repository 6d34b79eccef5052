//! Which plugin answers a path and method. The table is rebuilt whenever a plugin changes; requests read it
//! without a lock.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use super::readers::Readers;
use crate::{
    model::{
        manifest::{Route, RouteName},
        queue::Queue,
    },
    unit::pending::Pending,
    versions::PluginVersions,
};

/// Why a route cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two plugins, or one plugin twice, answer the same requests.
    #[error(
        "{second} declares the route {method} {path}, but {first} already answers it as {method} {taken}"
    )]
    Collision {
        /// In upper case.
        method: String,
        /// As the second plugin writes it.
        path: String,
        /// As the first plugin writes it.
        taken: String,
        /// The plugin that answers it already.
        first: String,
        /// The plugin that declares it, too.
        second: String,
    },
    /// The path is malformed.
    #[error("{plugin} declares the route {method} {path}: {reason}")]
    Malformed {
        /// The plugin that declares it.
        plugin: String,
        /// In upper case.
        method: String,
        /// As the plugin writes it.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where the requests of one plugin go.
#[derive(Debug)]
pub struct Endpoint {
    /// The plugin.
    pub plugin: String,
    /// Its versions on this host.
    pub versions: Arc<PluginVersions>,
    /// The queue of its HTTP lane: writes.
    pub requests: Arc<Queue<Pending>>,
    /// The connections of its reads.
    pub readers: Readers,
}

/// Who answers a request, and how.
#[derive(Debug)]
pub struct Target {
    /// The plugin.
    pub endpoint: Arc<Endpoint>,
    /// The route. Its index is looked up in the version that is active when the request is handled.
    pub route: Arc<RouteName>,
    /// Read-only, outside the lanes.
    pub read: bool,
}

/// Checks whether a version of `plugin` with these routes can run next to the other plugins.
///
/// # Errors
/// The first route that another plugin answers already, or that is malformed.
pub fn collides(endpoints: &[Arc<Endpoint>], plugin: &str, routes: &[Route]) -> Result<(), RouteError> {
    let mut all = RouteDraft::default();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.plugin != plugin) {
        for route in &endpoint.versions.active().version.manifest.routes {
            all.add(&endpoint.plugin, route, ())?;
        }
    }
    for route in routes {
        all.add(plugin, route, ())?;
    }
    all.finish().map(drop)
}

/// Paths, their methods, and the target of each.
#[derive(Debug)]
pub struct Routes<T> {
    paths: matchit::Router<Resource<T>>,
}

/// One path.
#[derive(Debug)]
pub struct Resource<T> {
    /// Value of the header `Allow`.
    pub allow: String,
    methods: Vec<Method<T>>,
}

#[derive(Debug)]
struct Method<T> {
    name: String,
    plugin: String,
    path: String,
    target: T,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { paths: matchit::Router::new() }
    }
}

impl<T> Routes<T> {
    /// The resource at a path, and the values of the path. The path is matched as it was sent; the values are
    /// not decoded yet.
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Option<(&Resource<T>, Vec<&'p str>)> {
        let found = self.paths.at(path).ok()?;
        let values = found.params.iter().map(|(_, value)| value).collect();
        Some((found.value, values))
    }
}

impl<T> Resource<T> {
    /// The target of a method. `HEAD` is answered like `GET` (RFC 9110).
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&T> {
        let name = if name == "HEAD" { "GET" } else { name };
        self.methods.iter().find(|method| method.name == name).map(|method| &method.target)
    }
}

/// Resources by the pattern of their paths. Two plugins may give the parameters of one path different names.
#[derive(Debug)]
pub(super) struct RouteDraft<T>(HashMap<String, Resource<T>>);

impl<T> Default for RouteDraft<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> RouteDraft<T> {
    pub(super) fn add(&mut self, plugin: &str, route: &Route, target: T) -> Result<(), RouteError> {
        let Some(pattern) = pattern(&route.path) else {
            return Err(malformed(
                plugin,
                route,
                "a path begins with a slash, and its values are segments: {name}",
            ));
        };
        let empty = || Resource { allow: String::new(), methods: Vec::new() };
        let methods = &mut self.0.entry(pattern).or_insert_with(empty).methods;
        if let Some(taken) = methods.iter().find(|method| method.name == route.method) {
            return Err(RouteError::Collision {
                method: route.method.clone(),
                path: route.path.clone(),
                taken: taken.path.clone(),
                first: taken.plugin.clone(),
                second: plugin.to_owned(),
            });
        }
        let (name, plugin, path) = (route.method.clone(), plugin.to_owned(), route.path.clone());
        methods.push(Method { name, plugin, path, target });
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Routes<T>, RouteError> {
        let mut routes = Routes::default();
        for (pattern, mut resource) in self.0 {
            resource.allow = allow(&resource.methods);
            let first = resource.methods.first().map(|first| (first.plugin.clone(), first.name.clone()));
            routes.paths.insert(pattern.clone(), resource).map_err(|error| {
                let (plugin, method) = first.unwrap_or_default();
                RouteError::Malformed { plugin, method, path: pattern, reason: error.to_string() }
            })?;
        }
        Ok(routes)
    }
}

fn malformed(plugin: &str, route: &Route, reason: &str) -> RouteError {
    let (method, path) = (route.method.clone(), route.path.clone());
    RouteError::Malformed { plugin: plugin.to_owned(), method, path, reason: reason.to_owned() }
}

/// The path with its parameters numbered; none where it is malformed.
fn pattern(path: &str) -> Option<String> {
    let mut pattern = String::with_capacity(path.len());
    for (place, segment) in path.strip_prefix('/')?.split('/').enumerate() {
        let value = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
        if value.unwrap_or(segment).contains(['{', '}', '*']) || value == Some("") {
            return None;
        }
        let _infallible = match value {
            Some(_) => write!(pattern, "/{{{place}}}"),
            None => write!(pattern, "/{segment}"),
        };
    }
    Some(pattern)
}

fn allow<T>(methods: &[Method<T>]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Route, RouteDraft, RouteError, Routes};
    use crate::model::manifest::{Manifest, RouteName, route_index};

    fn route(method: &str, path: &str) -> Route {
        Route { method: method.into(), path: path.into(), read: false }
    }

    fn routes(all: &[(&'static str, &str, &str)]) -> Result<Routes<&'static str>, RouteError> {
        let mut planned = RouteDraft::default();
        for (plugin, method, path) in all {
            planned.add(plugin, &route(method, path), *plugin)?;
        }
        planned.finish()
    }

    #[test]
    fn a_path_and_a_method_find_their_plugin() {
        let routes = routes(&[
            ("commands", "POST", "/orders"),
            ("queries", "GET", "/orders"),
            ("queries", "GET", "/orders/{orderId}"),
            ("commands", "GET", "/orders/{order-id}/events"),
        ])
        .unwrap();
        for (method, path, found) in [
            ("POST", "/orders", Some(("commands", vec![]))),
            ("GET", "/orders", Some(("queries", vec![]))),
            ("HEAD", "/orders", Some(("queries", vec![]))),
            ("PUT", "/orders", None),
            ("GET", "/orders/A%2Fb", Some(("queries", vec!["A%2Fb"]))),
            ("GET", "/orders/7/events", Some(("commands", vec!["7"]))),
            ("HEAD", "/orders/7/events", Some(("commands", vec!["7"]))),
        ] {
            let (resource, values) = routes.find(path).unwrap();
            assert_eq!(resource.method(method).map(|plugin| (*plugin, values)), found, "{method} {path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/orders/",
            "//orders",
            "/ORDERS",
            "/orders/7/",
            "/orders//events",
            "/orders/a/b/c",
        ] {
            assert!(routes.find(path).is_none(), "{path}");
        }
        assert_eq!(routes.find("/orders").unwrap().0.allow, "GET, HEAD, OPTIONS, POST");
    }

    #[test]
    fn a_collision_names_both_plugins_and_the_route() {
        let error =
            routes(&[("one", "GET", "/orders/{id}"), ("two", "GET", "/orders/{orderId}")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "two declares the route GET /orders/{orderId}, but one already answers it as GET /orders/{id}"
        );
        assert!(routes(&[("one", "GET", "/a"), ("one", "GET", "/a")]).is_err());
    }

    #[test]
    fn a_malformed_path_is_refused() {
        for path in ["", "orders", "/a-{b}", "/{}", "/{*rest}", "/{a}{b}", "/{{a}}", "/*"] {
            assert!(matches!(routes(&[("one", "GET", path)]), Err(RouteError::Malformed { .. })), "{path}");
        }
    }

    #[test]
    fn a_route_is_found_in_another_version() {
        let manifest =
            Manifest { routes: vec![route("GET", "/a"), route("POST", "/a")], ..Manifest::default() };
        let name = |method: &str| RouteName { method: method.into(), path: "/a".into() };
        assert_eq!(route_index(&manifest, &name("POST")), Some(1));
        assert_eq!(route_index(&manifest, &name("PUT")), None);
    }
}
