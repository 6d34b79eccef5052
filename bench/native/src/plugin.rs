//! The plugins of the order system, called as components are.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use saga_host::{
    capability::Guest,
    model::bindings::{
        exports::saga::plugin::{
            deliveries::{Delivery, Outcome},
            requests::{Request, Response},
        },
        saga::plugin::{sagas::SagaParam, types::Failure},
    },
    plugin::native::NativePlugin,
};
use saga_plugin::{Definition, dispatch};

use crate::{crossing::Crossings, imports::Imports, lift, lower};

/// A plugin, defined once: a component is defined anew in each call, as each has a fresh instance.
struct Plugin {
    definition: LazyLock<Definition>,
    crossings: Crossings,
}

static PLUGINS: [(&str, Plugin); 5] = [
    ("inventory-command", Plugin::new(inventory_command::definition)),
    ("inventory-query", Plugin::new(inventory_query::definition)),
    ("notification", Plugin::new(notification::definition)),
    ("order-orchestrator", Plugin::new(order_orchestrator::definition)),
    ("order-query", Plugin::new(order_query::definition)),
];

impl Plugin {
    const fn new(define: fn() -> Definition) -> Self {
        Self { definition: LazyLock::new(define), crossings: Crossings::new() }
    }
}

/// The plugin of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn NativePlugin> {
    let (_, plugin) = PLUGINS.iter().find(|(known, _)| *known == name)?;
    Some(plugin)
}

/// Says what crossed between the host and each plugin, when asked.
pub(crate) fn tell_crossings() {
    PLUGINS.iter().for_each(|(name, plugin)| plugin.crossings.tell(name));
}

impl NativePlugin for Plugin {
    fn deliveries(
        &self,
        guest: &mut Guest,
        batch: &[Delivery<'_>],
        sagas: &[SagaParam<'_>],
    ) -> wasmtime::Result<Result<Vec<Outcome>, Failure>> {
        let Self { definition, crossings } = self;
        crossings.call();
        crossings.handed_in(&(batch, sagas));
        let batch: Vec<_> = batch.iter().map(lower::delivery).collect();
        let sagas = sagas.iter().map(lower::saga).collect();
        let handled =
            trapping(|| dispatch::deliveries(definition, &Imports::new(guest, crossings), &batch, sagas))?;
        let handled =
            handled.map(|outcomes| outcomes.into_iter().map(lift::outcome).collect()).map_err(lift::failure);
        crossings.handed_out(&handled);
        Ok(handled)
    }

    fn requests(
        &self,
        guest: &mut Guest,
        batch: &[Request<'_>],
    ) -> wasmtime::Result<Result<Vec<Response>, Failure>> {
        let Self { definition, crossings } = self;
        crossings.call();
        crossings.handed_in(&batch);
        let batch: Vec<_> = batch.iter().map(lower::request).collect();
        let handled = trapping(|| dispatch::requests(definition, &Imports::new(guest, crossings), &batch))?;
        let handled = handled.map(|all| all.into_iter().map(lift::response).collect()).map_err(lift::failure);
        crossings.handed_out(&handled);
        Ok(handled)
    }
}

/// A panic, and what an import does not return from, end the call as a trap ends that of a component.
fn trapping<T>(call: impl FnOnce() -> T) -> wasmtime::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|stopped| match stopped.downcast::<wasmtime::Error>() {
        Ok(error) => *error,
        Err(panic) => wasmtime::Error::msg(format!("panicked: {}", message(&*panic))),
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::{PLUGINS, trapping};

    #[test]
    fn each_plugin_has_its_own_name() {
        for (name, plugin) in &PLUGINS {
            assert_eq!(plugin.definition.describe().name, *name);
        }
    }

    #[test]
    fn what_stops_a_plugin_is_told() {
        let stopped = |call: fn()| trapping(call).err().map(|error| error.to_string());
        let of_import = || std::panic::resume_unwind(Box::new(wasmtime::Error::msg("over a limit")));
        assert_eq!(stopped(of_import).as_deref(), Some("over a limit"));
        assert_eq!(
            stopped(|| std::panic::resume_unwind(Box::new("no stock"))).as_deref(),
            Some("panicked: no stock")
        );
        assert_eq!(stopped(|| {}), None);
    }
}
