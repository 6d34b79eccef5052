//! A way to Postgres or Kafka that a test opens: until then, nothing listens at the address that a host knows.

use std::path::PathBuf;

use saga_testkit::{host_process::free_address, target::Target};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
};

/// Where an open gate leads.
#[derive(Clone)]
enum Destination {
    Postgres(PathBuf),
    Kafka(String),
}

/// A gate. A host needs the one of Kafka only to start: then it learns the addresses of the brokers.
pub(crate) struct Gate {
    address: String,
    destination: Destination,
}

impl Gate {
    /// A closed gate before the Postgres of a stack, and the stack behind it.
    pub(crate) fn before_postgres(target: &Target) -> (Self, Target) {
        let server: PgConnectOptions = target.postgres.parse().unwrap();
        let socket = server.get_socket().unwrap().join(format!(".s.PGSQL.{}", server.get_port()));
        let gate = Self { address: free_address().unwrap(), destination: Destination::Postgres(socket) };
        let postgres = format!("postgres://postgres@{}/postgres", gate.address);
        (gate, Target { postgres, ..target.clone() })
    }

    /// A closed gate before the Kafka of a stack, and the stack behind it.
    pub(crate) fn before_kafka(target: &Target) -> (Self, Target) {
        let destination = Destination::Kafka(target.kafka.clone());
        let gate = Self { address: free_address().unwrap(), destination };
        let kafka = gate.address.clone();
        (gate, Target { kafka, ..target.clone() })
    }

    /// Opens it for the rest of the test.
    pub(crate) async fn open(self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut host, _)) = listener.accept().await {
                let destination = self.destination.clone();
                tokio::spawn(async move {
                    match destination {
                        Destination::Postgres(socket) => {
                            copy_bidirectional(&mut host, &mut UnixStream::connect(socket).await?).await
                        }
                        Destination::Kafka(address) => {
                            copy_bidirectional(&mut host, &mut TcpStream::connect(address).await?).await
                        }
                    }
                });
            }
        });
    }
}
