//! A TCP proxy between a client and a server on loopback, by which the network between them is cut or slowed.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BUFFER_BYTES: usize = 64 * 1024;

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// Passes everything on.
    #[default]
    Open,
    /// Passes everything on, each piece after this time.
    Slow(Duration),
    /// Passes nothing on and closes nothing, like a network that loses every packet.
    Silent,
    /// Resets all connections, and new ones as soon as they are accepted.
    Reset,
}

/// A running proxy. Dropping it closes its port; open connections go on until one side ends them.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on this port of loopback and passes connections on to `upstream`, also on loopback.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16, upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.with_context(|| format!("listen on port {port}"))?;
        let (network, watched) = watch::channel(Network::default());
        let accepting = tokio::spawn(accept(listener, upstream, watched));
        Ok(Self { port, network, accepting })
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the network from now on, for connections that are open, too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: u16, network: watch::Receiver<Network>) {
    loop {
        // An error here is of one connection, or of a process without free file handles.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(pass(client, upstream, network.clone()));
    }
}

/// Passes one connection on until either side ends it.
async fn pass(client: TcpStream, upstream: u16, mut network: watch::Receiver<Network>) -> io::Result<()> {
    if *network.borrow_and_update() == Network::Reset {
        return reset(&client);
    }
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut client_read, mut client_write), (mut server_read, mut server_write)) =
        (client.into_split(), server.into_split());
    let (mut up, mut down) = (network.clone(), network);
    let ended = tokio::select! {
        ended = pump(&mut client_read, &mut server_write, &mut up) => ended,
        ended = pump(&mut server_read, &mut client_write, &mut down) => ended,
    };
    if ended.is_err() {
        reset(client_read.as_ref())?;
        reset(server_read.as_ref())?;
        // Dropped, they would end the streams in an orderly way first.
        client_write.forget();
        server_write.forget();
    }
    ended
}

/// Lets a stream be reset when it is dropped.
fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

/// Passes bytes on in one direction. An error means that both sides are to be reset.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    network: &mut watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            () = until_reset(network) => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        if read == 0 {
            return Ok(());
        }
        passable(network).await?;
        to.write_all(&buffer[..read]).await?;
    }
}

async fn until_reset(network: &mut watch::Receiver<Network>) {
    if network.wait_for(|network| *network == Network::Reset).await.is_err() {
        // The proxy is gone, and nothing will reset this connection.
        std::future::pending().await
    }
}

/// Waits until the network passes a piece on.
async fn passable(network: &mut watch::Receiver<Network>) -> io::Result<()> {
    loop {
        let now = *network.borrow_and_update();
        match now {
            Network::Open => return Ok(()),
            Network::Slow(delay) => tokio::select! {
                () = tokio::time::sleep(delay) => return Ok(()),
                () = until_reset(network) => {}
            },
            Network::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            Network::Silent => {
                if network.changed().await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Network, Proxy};
    use crate::host_process::free_port;

    /// A server that answers every byte with the same byte.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        if stream.write_u8(byte).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn bytes_pass_wait_or_break_as_the_network_is() {
        let proxy = Proxy::start(free_port().unwrap(), echo().await).await.unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        stream.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);

        proxy.set(Network::Silent);
        stream.write_u8(2).await.unwrap();
        assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        proxy.set(Network::Open);
        assert_eq!(stream.read_u8().await.unwrap(), 2, "what was delayed is not lost");

        proxy.set(Network::Reset);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let mut refused = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert!(refused.read_u8().await.is_err());

        proxy.set(Network::Slow(Duration::from_secs(3600)));
        let mut slow = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        slow.write_u8(4).await.unwrap();
        proxy.set(Network::Reset);
        assert!(slow.read_u8().await.is_err(), "what is under way is lost");

        proxy.set(Network::Open);
        let mut again = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        again.write_u8(3).await.unwrap();
        assert_eq!(again.read_u8().await.unwrap(), 3);
    }
}
