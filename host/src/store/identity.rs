//! The identity of a database (`saga.database_identity`). It starts the ids of all records that the database
//! publishes, so that records of two databases are never taken for those of one, whatever their names are.
//!
//! A copy, a restored dump and a promoted server take a new identity. Whoever keeps something in memory about
//! a database confirms the identity on each new connection, before anything is written: lanes their lease, the
//! relay its order.

use sqlx::PgExecutor;

use crate::model::identity::Identity;

/// The identity of a database; gives it a new one first where it has none, or has one from elsewhere.
/// `database` names it in the log.
///
/// # Errors
/// Postgres is unreachable, or the row was not written by a saga-host.
pub async fn confirm_identity(
    executor: impl PgExecutor<'_>,
    database: &str,
) -> Result<Identity, sqlx::Error> {
    let (identity, replaced): (String, Option<String>) =
        sqlx::query_as("SELECT identity, replaced FROM saga.confirm_identity()").fetch_one(executor).await?;
    if let Some(replaced) = replaced {
        tracing::warn!(
            database,
            identity,
            replaced,
            "this database is a copy, was restored, or its server was promoted: it has taken a new identity"
        );
    }
    let parsed = Identity::parse(&identity);
    parsed.ok_or_else(|| sqlx::Error::Decode(format!("saga.database_identity has {identity:?}").into()))
}
