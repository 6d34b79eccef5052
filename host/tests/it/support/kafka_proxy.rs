//! A proxy between one host and Kafka that can be cut. It puts its own port into the answers that name the
//! broker, so the host never connects to the broker itself.

use std::io;

use saga_testkit::{host_process::free_address, target::Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// The proxy. Dropping it cuts it, too.
pub(crate) struct KafkaProxy(CancellationToken);

impl KafkaProxy {
    /// Starts a proxy for the Kafka of a stack; gives the stack with the proxy's address.
    pub(crate) async fn before(target: &Target) -> (Self, Target) {
        let address = free_address().unwrap();
        let listener = TcpListener::bind(&address).await.unwrap();
        let cut = CancellationToken::new();
        tokio::spawn(accept(listener, target.kafka.clone(), cut.clone()));
        (Self(cut), Target { kafka: address, ..target.clone() })
    }

    /// Closes all connections and accepts no more.
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, broker: String, cut: CancellationToken) {
    let own = advertised(&listener.local_addr().unwrap().to_string());
    while let Some(Ok((host, _))) = cut.run_until_cancelled(listener.accept()).await {
        let (broker, own, cut) = (broker.clone(), own.clone(), cut.clone());
        tokio::spawn(async move { cut.run_until_cancelled(between(host, &broker, &own)).await });
    }
}

/// How an answer names a broker: its host without the length, and its port.
fn advertised(address: &str) -> Vec<u8> {
    let (host, port) = address.rsplit_once(':').unwrap();
    [host.as_bytes(), &port.parse::<u32>().unwrap().to_be_bytes()].concat()
}

async fn between(host: TcpStream, broker: &str, own: &[u8]) -> io::Result<()> {
    let real = advertised(broker);
    let server = TcpStream::connect(broker).await?;
    let ((mut from_host, mut to_host), (mut from_server, mut to_server)) =
        (host.into_split(), server.into_split());
    let requests = async { tokio::io::copy(&mut from_host, &mut to_server).await.map(drop) };
    let answers = async {
        loop {
            let length = from_server.read_u32().await?;
            let mut answer = vec![0; length as usize];
            from_server.read_exact(&mut answer).await?;
            for start in 0..answer.len().saturating_sub(real.len() - 1) {
                if answer[start..].starts_with(&real) {
                    answer[start..start + own.len()].copy_from_slice(own);
                }
            }
            to_host.write_u32(length).await?;
            to_host.write_all(&answer).await?;
        }
        #[allow(unreachable_code, reason = "it gives the block its type")]
        io::Result::Ok(())
    };
    tokio::try_join!(requests, answers).map(drop)
}
