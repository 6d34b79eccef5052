//! Opens a listener, or says in one line what to do instead.

use std::io::ErrorKind;

use anyhow::anyhow;
use tokio::net::TcpListener;

/// Listens on `address`. `what` (`the host API`) and `option` (`--admin`) are for the message.
///
/// # Errors
/// The address is taken, is not one of this machine, or is not an address.
pub async fn bind(what: &str, option: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
        match error.kind() {
            ErrorKind::AddrInUse => anyhow!(
                "{what} cannot listen on {address}: the address is taken; stop the program that uses it \
                 (`ss -ltnp sport = :{port}` shows it), or choose another address with {option}"
            ),
            ErrorKind::AddrNotAvailable => {
                anyhow!(
                    "{what} cannot listen on {address}: this machine does not have it; choose another \
                     with {option}"
                )
            }
            ErrorKind::PermissionDenied => {
                anyhow!(
                    "{what} cannot listen on {address}: not permitted; choose a port from 1024 up \
                     with {option}"
                )
            }
            _ => anyhow!("{what} cannot listen on {address} ({option}): {error}"),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::bind;

    #[tokio::test]
    async fn a_taken_address_says_what_to_do() {
        let first = bind("the host API", "--admin", "127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let refused = bind("the host API", "--admin", &address).await.unwrap_err().to_string();
        assert!(
            refused.contains("taken") && refused.contains("--admin") && !refused.contains('\n'),
            "{refused}"
        );
        let nonsense = bind("the host API", "--admin", "nonsense").await.unwrap_err().to_string();
        assert!(nonsense.contains("--admin"), "{nonsense}");
    }
}
