//! Ports on loopback that children listen on.

use std::net::TcpListener;

use anyhow::{Context, bail};

/// Below the ports that Linux and macOS give to outgoing connections, which could take a picked port.
const PICKED_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// The requested port, when it is free; without a request, any free port.
pub(super) fn choose(requested: Option<u16>, of: &str, option: &str) -> anyhow::Result<u16> {
    match requested {
        Some(port) if is_free(port) => Ok(port),
        Some(port) => {
            bail!(
                "port {port} for {of} is taken: stop the program that listens there, or choose another \
                 with {option}"
            )
        }
        None => {
            let (first, count) = (usize::from(PICKED_PORTS.start), PICKED_PORTS.len());
            let offset = uuid::Uuid::new_v4().as_u128() as usize % count;
            let mut ports = (0..count).filter_map(|next| u16::try_from(first + (offset + next) % count).ok());
            ports.find(|port| is_free(*port)).with_context(|| format!("no free port on loopback for {of}"))
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_and_a_picked_one_is_free() {
        // A process that another test forks at this moment inherits the listener of a port that was tried,
        // until it calls exec.
        let tried = || {
            let picked = choose(None, "Kafka", "--kafka-port").unwrap();
            Some((picked, TcpListener::bind(("127.0.0.1", picked)).ok()?))
        };
        let (picked, listener) = (0..100).find_map(|_| tried()).unwrap();
        let error = choose(Some(picked), "Kafka", "--kafka-port").unwrap_err().to_string();
        assert!(error.contains("--kafka-port") && !error.contains('\n'), "{error}");
        drop(listener);
        let freed = (0..1_000_000)
            .any(|_| choose(Some(picked), "Kafka", "--kafka-port").is_ok_and(|port| port == picked));
        assert!(freed);
    }
}
