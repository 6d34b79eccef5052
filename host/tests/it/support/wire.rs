//! A proxy between a host and Postgres. It counts what passes, by the account of each connection.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use saga_testkit::target::Target;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

/// The version of the protocol. A request for encryption has its code in the same place.
const STARTUP: [u8; 4] = (3_u32 << 16).to_be_bytes();

/// What has passed on the connections of one account.
#[derive(Clone, Copy, Default)]
pub(crate) struct Passed {
    /// Messages that the server answers with "ready for query": Query and Sync.
    pub(crate) round_trips: u64,
    /// How often the server was ready outside of a transaction.
    pub(crate) transactions: u64,
    /// Bytes that the host sent.
    pub(crate) bytes: u64,
}

type Counts = Arc<Mutex<BTreeMap<String, Passed>>>;

/// The proxy. It counts from its start and has no end of its own: stop the hosts behind it first.
pub(crate) struct Wire {
    counts: Counts,
    _folder: TempDir,
}

impl Wire {
    /// Starts a proxy for the Postgres of a stack; gives the stack with the proxy's address.
    pub(crate) fn before(target: &Target) -> (Self, Target) {
        let server: PgConnectOptions = target.postgres.parse().unwrap();
        let (folder_of_server, port) = (server.get_socket().unwrap(), server.get_port());
        let name = format!(".s.PGSQL.{port}");
        // The path of a socket must be short, so it is not below the folder of the build.
        let folder = tempfile::Builder::new().prefix("saga-wire-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(&name)).unwrap();
        let counts = Counts::default();
        tokio::spawn(accept(listener, folder_of_server.join(name), counts.clone()));
        let host = folder.path().display().to_string().replace('/', "%2F");
        let postgres = format!("postgres://postgres@{host}:{port}/postgres");
        (Self { counts, _folder: folder }, Target { postgres, ..target.clone() })
    }

    /// What has passed on the lanes of a plugin.
    pub(crate) fn of_lanes(&self, plugin: &str) -> Passed {
        let account = format!("plugin_{}", plugin.replace('-', "_"));
        self.counts.lock().unwrap().get(&account).copied().unwrap_or_default()
    }
}

async fn accept(listener: UnixListener, server: PathBuf, counts: Counts) {
    while let Ok((host, _)) = listener.accept().await {
        let (server, counts) = (server.clone(), counts.clone());
        tokio::spawn(async move { between(host, UnixStream::connect(server).await?, &counts).await });
    }
}

/// Forwards both directions. Ends with an error when one side closes; then the connection of the other side
/// closes, too.
async fn between(mut host: UnixStream, mut server: UnixStream, counts: &Counts) -> io::Result<()> {
    let account = start(&mut host, &mut server).await?;
    let count = |add: &dyn Fn(&mut Passed)| add(counts.lock().unwrap().entry(account.clone()).or_default());
    let ((from_host, to_host), (from_server, to_server)) = (host.into_split(), server.into_split());
    let requests = pass(from_host, to_server, |message| {
        count(&|passed| {
            passed.round_trips += u64::from(matches!(message[0], b'Q' | b'S'));
            passed.bytes += message.len() as u64;
        });
    });
    let answered = pass(from_server, to_host, |message| {
        if matches!(message, [b'Z', .., b'I']) {
            count(&|passed| passed.transactions += 1);
        }
    });
    tokio::try_join!(requests, answered).map(drop)
}

/// Forwards up to the message that names the account. Only after it does each message begin with its kind.
async fn start(host: &mut UnixStream, server: &mut UnixStream) -> io::Result<String> {
    loop {
        let mut message = Vec::new();
        read_length_and_body(host, &mut message).await?;
        server.write_all(&message).await?;
        if message[4..].starts_with(&STARTUP) {
            let mut texts = message[8..].split(|byte| *byte == 0);
            texts.find(|text| *text == b"user").expect("no account");
            return Ok(String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned());
        }
        // Postgres refuses encryption with one byte.
        host.write_u8(server.read_u8().await?).await?;
    }
}

async fn pass(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    loop {
        let mut message = vec![from.read_u8().await?];
        read_length_and_body(&mut from, &mut message).await?;
        count(&message);
        to.write_all(&message).await?;
    }
}

/// The length includes itself.
async fn read_length_and_body(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> io::Result<()> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let body = message.len();
    message.resize(body + (length as usize).saturating_sub(4), 0);
    from.read_exact(&mut message[body..]).await.map(drop)
}
