//! Read-only requests. Each runs in its own transaction, outside the lanes, on one of a few connections under
//! the plugin's role.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::Row;
use tokio::sync::Semaphore;

use crate::{
    model::{
        fault::Fault,
        policy::Policy,
        request::{Request, Response},
    },
    plugin::{call::CallContext, version::Version},
    store::{Database, PluginRole, session::Session},
};

/// Connections for one plugin's reads on this host.
const READERS_MAX: usize = 4;
/// How long a read waits for a connection.
const FREE_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

const BEGIN: &str = "RESET ALL; BEGIN READ ONLY;
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The connections for one plugin's reads. They are opened when first needed and reused until one fails.
#[derive(Debug)]
pub struct Readers {
    database: Database,
    role: PluginRole,
    free: Semaphore,
    idle: Mutex<Vec<ReadConnection>>,
}

#[derive(Debug)]
struct ReadConnection {
    session: Session,
    /// The policy whose limits are in the connection's settings.
    policy: Arc<Policy>,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// All connections were busy for too long.
    #[error("no read connection was free within {} s", FREE_WITHIN.as_secs())]
    Busy,
    /// The call or its connection failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Readers {
    /// Readers without an open connection.
    #[must_use]
    pub fn new(database: Database, role: PluginRole) -> Self {
        Self { database, role, free: Semaphore::new(READERS_MAX), idle: Mutex::default() }
    }

    /// Runs one request in a read-only transaction of its own. When the environment fails, tries once more on
    /// a new connection.
    ///
    /// # Cancellation
    /// Closes the connection.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn read(&self, version: &Version, request: &Request) -> Result<Response, ReadError> {
        let free = tokio::time::timeout(FREE_WITHIN, self.free.acquire()).await;
        let _permit = free.map_err(|_elapsed| ReadError::Busy)?.map_err(|_closed| ReadError::Busy)?;
        let reader = match self.idle(&version.policy) {
            Some(reader) => reader,
            None => self.connect(&version.policy).await?,
        };
        match self.call(reader, version, request).await {
            Err(Fault::Environment(reason)) => {
                tracing::debug!(plugin = version.plugin, reason, "read failed; trying on a new connection");
                self.idle.lock().clear();
                let reader = self.connect(&version.policy).await?;
                Ok(self.call(reader, version, request).await?)
            }
            done => Ok(done?),
        }
    }

    /// An open connection with the limits of this policy. Connections of another policy are closed.
    fn idle(&self, policy: &Arc<Policy>) -> Option<ReadConnection> {
        let mut idle = self.idle.lock();
        idle.retain(|reader| Arc::ptr_eq(&reader.policy, policy));
        idle.pop()
    }

    async fn connect(&self, policy: &Arc<Policy>) -> Result<ReadConnection, Fault> {
        match tokio::time::timeout(CONNECT_WITHIN, self.database.connect_plugin(&self.role, policy)).await {
            Ok(Ok(connection)) => {
                Ok(ReadConnection { session: Session { connection }, policy: Arc::clone(policy) })
            }
            Ok(Err(error)) => Err(Fault::Environment(error.to_string())),
            Err(_elapsed) => Err(Fault::Environment("Postgres did not answer".to_owned())),
        }
    }

    async fn call(
        &self,
        reader: ReadConnection,
        version: &Version,
        request: &Request,
    ) -> Result<Response, Fault> {
        let ReadConnection { mut session, policy } = reader;
        let now_us = begin(&mut session).await?;
        let setting = CallContext {
            unit: format!("{}:read:{}", self.database.name, request.id),
            now_us,
            read_only: true,
        };
        let called = version.handle_requests(session, &setting, &[request]).await;
        if let Some(mut session) = called.session {
            let end = if called.result.is_ok() { "COMMIT" } else { "ROLLBACK" };
            if run(&mut session, end).await.is_ok() {
                self.idle.lock().push(ReadConnection { session, policy });
            }
        }
        let mut responses = called.result?;
        responses.pop().ok_or_else(|| Fault::Guest("the plugin gave no answer".to_owned()))
    }
}

/// Begins a transaction; returns the time of the database, microseconds since 1970.
async fn begin(session: &mut Session) -> Result<i64, Fault> {
    let rows = sqlx::raw_sql(BEGIN).fetch_all(&mut session.connection).await;
    let now_us = rows.and_then(|rows| rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0));
    now_us.map_err(|error| Fault::of(&error))
}

async fn run(session: &mut Session, statement: &'static str) -> Result<(), Fault> {
    let done = sqlx::raw_sql(statement).execute(&mut session.connection).await;
    done.map(drop).map_err(|error| Fault::of(&error))
}
