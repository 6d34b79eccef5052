//! `kafka`: messages into the outbox.

use super::{
    guest::Guest,
    refusal::{HEADER_NOT_ALLOWED, TOO_LARGE, TOPIC_NOT_GRANTED, UNIT_FULL, refuse},
};
use crate::model::{
    bindings::saga::plugin::{
        kafka::{Host, Outgoing as Asked},
        types::Refusal,
    },
    effects::Outgoing,
};

/// The most bytes of a message: below Kafka's default `max.message.bytes` (1 MiB), with room for the headers
/// that the host adds.
const MESSAGE_BYTES_MAX: usize = 1_000_000;
/// Memory of an `Outgoing` besides its bytes.
const OVERHEAD_BYTES: usize = 128;

impl Host for Guest {
    async fn publish(&mut self, messages: Vec<Asked>) -> wasmtime::Result<Result<(), Refusal>> {
        if let Err(refusal) = self.writable("kafka.publish")? {
            return Ok(Err(refusal));
        }
        let before = self.effects.published.len();
        for asked in messages {
            if let Err(refusal) = publish(self, asked) {
                self.effects.published.truncate(before);
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(()))
    }
}

fn publish(guest: &mut Guest, asked: Asked) -> Result<(), Refusal> {
    let cause = Some(asked.cause);
    guest.known_cause(asked.cause)?;
    granted(guest, &asked)?;
    let most = guest.grant.limits.publish_messages_max;
    if guest.effects.published.len() >= most as usize {
        let message = format!("more than publish_messages_max = {most} messages in one call");
        return Err(refuse(UNIT_FULL, cause, message));
    }
    if let Some(header) = asked.headers.iter().find(|header| !header_allowed(&header.name)) {
        let message =
            format!("header {:?}: must be in lower case, and not one that the host writes", header.name);
        return Err(refuse(HEADER_NOT_ALLOWED, cause, message));
    }
    let bytes = size(&asked);
    if bytes > MESSAGE_BYTES_MAX {
        let message = format!("a message of {bytes} bytes to {}: at most {MESSAGE_BYTES_MAX}", asked.topic);
        return Err(refuse(TOO_LARGE, cause, message));
    }
    guest.reserve(bytes + OVERHEAD_BYTES, cause)?;
    guest.effects.published.push(Outgoing {
        cause: asked.cause,
        topic: asked.topic,
        key: asked.key,
        event_type: asked.event_type,
        content_type: asked.content_type,
        headers: asked.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        payload: asked.payload,
    });
    Ok(())
}

fn granted(guest: &Guest, asked: &Asked) -> Result<(), Refusal> {
    let grant = &guest.grant;
    if grant.publishes.contains(&asked.topic) {
        return Ok(());
    }
    let message = if grant.write.contains(&asked.topic) {
        format!("describe() does not list {} as published", asked.topic)
    } else {
        format!("{}.toml does not grant {} in [kafka] write", grant.plugin, asked.topic)
    };
    Err(refuse(TOPIC_NOT_GRANTED, Some(asked.cause), message))
}

fn size(asked: &Asked) -> usize {
    asked.key.as_ref().map_or(0, Vec::len)
        + asked.payload.as_ref().map_or(0, Vec::len)
        + asked.headers.iter().map(|header| header.name.len() + header.value.len()).sum::<usize>()
        + asked.event_type.len()
        + asked.content_type.len()
}

fn header_allowed(name: &str) -> bool {
    !name.is_empty()
        && !name.chars().any(|c| c.is_ascii_uppercase() || c.is_control())
        && !name.starts_with("ce_")
        && !["content-type", "traceparent", "tracestate"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::header_allowed;

    #[test]
    fn headers_of_the_host_are_refused() {
        for (name, allowed) in [
            ("tenant", true),
            ("x-origin", true),
            ("", false),
            ("Tenant", false),
            ("ce_id", false),
            ("content-type", false),
            ("traceparent", false),
        ] {
            assert_eq!(header_allowed(name), allowed, "{name}");
        }
    }
}
