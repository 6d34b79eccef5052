//! `timers`: scheduled and cancelled with the unit. Within a call the last of a name counts.

use super::{
    guest::Guest,
    refusal::{MALFORMED, refuse},
    sagas::known_time,
};
use crate::model::{
    bindings::saga::plugin::{
        timers::{Host, Timer as Asked},
        types::Refusal,
    },
    effects::Timer,
};

/// Memory of a timer besides its texts.
const OVERHEAD_BYTES: usize = 96;

impl Host for Guest {
    async fn schedule(&mut self, timers: Vec<Asked>) -> wasmtime::Result<Result<(), Refusal>> {
        if let Err(refusal) = self.writable("timers.schedule")? {
            return Ok(Err(refusal));
        }
        Ok(timers.into_iter().try_for_each(|asked| schedule(self, asked)))
    }

    async fn cancel(&mut self, names: Vec<String>) -> wasmtime::Result<Result<(), Refusal>> {
        if let Err(refusal) = self.writable("timers.cancel")? {
            return Ok(Err(refusal));
        }
        Ok(names.into_iter().try_for_each(|name| {
            if name.contains('\0') {
                return Err(refuse(MALFORMED, None, "the name of a timer contains NUL"));
            }
            self.reserve(name.len() + OVERHEAD_BYTES, None)?;
            self.effects.timers.retain(|timer| timer.name != name);
            self.effects.cancelled.push(name);
            Ok(())
        }))
    }
}

fn schedule(guest: &mut Guest, asked: Asked) -> Result<(), Refusal> {
    guest.known_cause(asked.cause)?;
    let texts = [Some(&asked.name), asked.correlation.as_ref()];
    if asked.name.is_empty() || texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(refuse(
            MALFORMED,
            Some(asked.cause),
            "the name of a timer is empty, or its name or correlation contains NUL",
        ));
    }
    known_time(asked.cause, asked.due)?;
    let bytes = asked.name.len() + asked.payload.len() + asked.correlation.as_ref().map_or(0, String::len);
    guest.reserve(bytes + OVERHEAD_BYTES, Some(asked.cause))?;
    let timer = Timer {
        cause: asked.cause,
        name: asked.name,
        due: asked.due,
        correlation: asked.correlation,
        payload: asked.payload,
    };
    match guest.effects.timers.iter_mut().find(|known| known.name == timer.name) {
        Some(known) => *known = timer,
        None => guest.effects.timers.push(timer),
    }
    Ok(())
}
