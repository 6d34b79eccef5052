//! Free ports on loopback.

use anyhow::{Context, Result};

/// Below the ports that Linux and macOS give to outgoing connections, which could take a picked port.
const PICKED_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that was free just now.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16> {
    let mut ports = std::iter::repeat_with(|| uuid::Uuid::new_v4().as_u128() as usize % PICKED_PORTS.len())
        .take(PICKED_PORTS.len())
        .filter_map(|offset| PICKED_PORTS.start.checked_add(u16::try_from(offset).ok()?));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no free port")
}

/// An address on loopback that was free just now.
///
/// # Errors
/// No port is free.
pub fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}
