//! The Postgres connection of a call.

use sqlx::PgConnection;

/// A connection inside a unit's transaction, or a read-only one of a `GET`, under the plugin's role.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
}
