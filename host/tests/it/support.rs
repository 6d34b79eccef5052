//! What the tests stand on: a Postgres server, named by `SAGA_TEST_POSTGRES` as
//! `postgres://superuser@host:port/database`.

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

/// The server's address, with an account that may do everything.
pub(crate) fn postgres_url() -> String {
    std::env::var("SAGA_TEST_POSTGRES").expect("SAGA_TEST_POSTGRES must be the address of a Postgres for tests")
}

/// A connection of that account.
pub(crate) async fn postgres() -> PgConnection {
    postgres_url().parse::<PgConnectOptions>().unwrap().disable_statement_logging().connect().await.unwrap()
}
