//! The connection of a lane or a read.

use sqlx::PgConnection;

/// A connection that is inside a unit's transaction, under the plugin's role.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
}
