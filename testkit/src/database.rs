//! SQL in the databases of the services: the host's schema `saga`, and sizes and counters of the server.
//! `verify::rows` has the business tables.

use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use crate::service::SERVICES;

const CONNECTIONS_MAX: u32 = 2;

/// Connections to the databases of services, opened when first used.
pub struct Databases {
    pools: Vec<(String, PgPool)>,
}

/// Counters of the server at one moment, up to a second old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Transactions that ended, committed or rolled back.
    pub transactions: i64,
    /// Rows inserted.
    pub inserted: i64,
    /// Rows updated.
    pub updated: i64,
    /// Rows deleted.
    pub deleted: i64,
    /// Bytes of write-ahead log.
    pub wal_bytes: i64,
}

impl Counters {
    /// The difference to an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            transactions: self.transactions - earlier.transactions,
            inserted: self.inserted - earlier.inserted,
            updated: self.updated - earlier.updated,
            deleted: self.deleted - earlier.deleted,
            wal_bytes: self.wal_bytes - earlier.wal_bytes,
        }
    }
}

impl Databases {
    /// Creates the pools of the five services; connections are opened when they are first used.
    ///
    /// # Errors
    /// The URL is malformed.
    pub fn new(url: &str) -> Result<Self> {
        Self::named(url, SERVICES.iter().map(|service| service.database))
    }

    /// The same for databases of these names.
    ///
    /// # Errors
    /// The URL is malformed.
    pub fn named<'a>(url: &str, names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let server = PgConnectOptions::from_str(url).context("the Postgres URL")?;
        let pool = |database: &str| {
            PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .connect_lazy_with(server.clone().database(database))
        };
        Ok(Self { pools: names.map(|name| (name.to_owned(), pool(name))).collect() })
    }

    /// The names of the databases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pools.iter().map(|(name, _)| name.as_str())
    }

    /// The pool of one service's database.
    ///
    /// # Errors
    /// No service has a database of this name.
    pub fn of(&self, database: &str) -> Result<&PgPool> {
        let found = self.pools.iter().find(|(name, _)| *name == database);
        found.map(|(_, pool)| pool).with_context(|| format!("no service has the database {database}"))
    }

    /// One number from one database.
    ///
    /// # Errors
    /// As Postgres reports.
    pub async fn count(&self, database: &str, statement: &'static str) -> Result<i64> {
        let row = sqlx::query(statement).fetch_one(self.of(database)?).await;
        row.and_then(|row| row.try_get(0)).with_context(|| format!("{statement} in {database}"))
    }

    /// The number of rows that a refused request must not change: in business tables, sagas and stored
    /// answers.
    ///
    /// # Errors
    /// As Postgres reports.
    pub async fn written_rows(&self, database: &str) -> Result<i64> {
        let pool = self.of(database)?;
        let tables = sqlx::query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname = 'public'
                OR (schemaname = 'saga' AND tablename IN ('saga_live', 'outbox', 'stored_answer'))
                OR (schemaname = 'saga' AND tablename LIKE 'saga\\_done\\_%')",
        );
        let mut total = 0;
        for table in tables.fetch_all(pool).await.with_context(|| format!("the tables of {database}"))? {
            let statement = format!("SELECT count(*) FROM {}", table.try_get::<String, _>(0)?);
            total += sqlx::query(AssertSqlSafe(statement)).fetch_one(pool).await?.try_get::<i64, _>(0)?;
        }
        Ok(total)
    }

    /// The server's counters now, over the five databases. WAL is counted for the whole server.
    ///
    /// # Errors
    /// As Postgres reports.
    pub async fn counters(&self) -> Result<Counters> {
        let names: Vec<String> = SERVICES.iter().map(|service| service.database.to_owned()).collect();
        let row = sqlx::query(
            "SELECT sum(xact_commit + xact_rollback)::bigint,
                    sum(tup_inserted)::bigint, sum(tup_updated)::bigint,
                    sum(tup_deleted)::bigint, (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint
               FROM pg_stat_database WHERE datname = ANY ($1)",
        )
        .bind(names)
        .fetch_one(self.of(SERVICES[0].database)?)
        .await
        .context("the server's counters")?;
        Ok(Counters {
            transactions: row.try_get(0)?,
            inserted: row.try_get(1)?,
            updated: row.try_get(2)?,
            deleted: row.try_get(3)?,
            wal_bytes: row.try_get(4)?,
        })
    }

    /// Bytes of the five databases on disk.
    ///
    /// # Errors
    /// As Postgres reports.
    pub async fn bytes(&self) -> Result<i64> {
        let size = "SELECT pg_database_size(current_database())";
        let mut bytes = 0;
        for service in SERVICES {
            bytes += self.count(service.database, size).await?;
        }
        Ok(bytes)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for (_, pool) in &self.pools {
            pool.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn counters_are_subtracted() {
        let at = |n: i64| Counters {
            transactions: n,
            inserted: 2 * n,
            updated: 3 * n,
            deleted: 4 * n,
            wal_bytes: 5 * n,
        };
        assert_eq!(at(7).since(at(5)), at(2));
    }
}
