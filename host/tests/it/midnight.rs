//! What is stored by the day, where a day ends in between, or is too short to tell two things apart.

use anyhow::ensure;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{clean_up, eventually, host};

/// Lanes of a plugin that no host runs, for the sessions of this test.
const LANES: &str =
    "INSERT INTO saga.lane (slot, plugin, role, kind, owner, epoch, unit, token, lease_expires_at)
     SELECT slot, 'midnight', session_user, 'http', 'test', 1, 1, 'token', 'infinity'
       FROM generate_series(9001, 9002) slot";
const GONE: &str = "DELETE FROM saga.lane WHERE plugin = 'midnight';
     DELETE FROM saga.stored_answer WHERE plugin = 'midnight';
     DELETE FROM saga.saga_done WHERE plugin = 'midnight'";
const ANSWERS: &str = "SELECT count(*) FROM saga.stored_answers(9002, ARRAY['a', 'b'])";

/// The database of a running host, with two lanes of this test.
struct Lanes(PgConnectOptions);

impl Lanes {
    async fn new(postgres: &str) -> Self {
        let server: PgConnectOptions = postgres.parse().unwrap();
        let lanes = Self(server.database("cmd-order").disable_statement_logging());
        lanes.run(LANES).await;
        lanes
    }

    async fn session(&self) -> PgConnection {
        self.0.connect().await.unwrap()
    }

    async fn run(&self, statements: &str) {
        run(&mut self.session().await, statements).await;
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let lanes = self.0.clone();
        clean_up(async move { run(&mut lanes.connect().await.unwrap(), GONE).await });
    }
}

async fn run(session: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(session).await.unwrap();
}

async fn number(session: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(session).await.unwrap()
}

/// The first host asks for the key before midnight and stores its answer under that day; the second one asks
/// after midnight, while the unit of the first one runs.
#[tokio::test]
async fn one_idempotency_key_on_two_hosts_is_handled_once_across_midnight() {
    let (_turn, target) = host::shared().await;
    let lanes = Lanes::new(&target.postgres).await;
    let mut first = lanes.session().await;
    run(&mut first, "BEGIN; SELECT FROM saga.stored_answers(9001, ARRAY['b', 'c'])").await;
    let mut second = lanes.session().await;
    let pid = number(&mut second, "SELECT pg_backend_pid()::bigint").await;
    let asked = tokio::spawn(async move {
        let mut transaction = second.begin().await.unwrap();
        number(&mut transaction, ANSWERS).await
    });
    let mut looking = lanes.session().await;
    eventually(async || {
        let waits: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)")
                .bind(i32::try_from(pid)?)
                .fetch_one(&mut looking)
                .await?;
        ensure!(waits || asked.is_finished(), "it does not ask yet");
        Ok(())
    })
    .await;
    let stored = "INSERT INTO saga.stored_answer (day, plugin, idempotency_key, request_hash, response)
        VALUES ((now() AT TIME ZONE 'UTC')::date - 1, 'midnight', 'b', '', ''); COMMIT";
    run(&mut first, stored).await;
    assert_eq!(asked.await.unwrap(), 1, "the second host does not find the answer of the first one");
}

#[tokio::test]
async fn one_saga_key_may_end_twice_on_one_day() {
    let (_turn, target) = host::shared().await;
    let lanes = Lanes::new(&target.postgres).await;
    let mut session = lanes.session().await;
    let no_rows = "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";
    for started_at_us in [1_000_000, 2_000_000] {
        let start = format!(
            "SELECT saga.flush(9001, 'token', {started_at_us},
                ARRAY[ROW('midnight', 'k', 'digest', 'S', '{{}}', 0, 'log')]::saga.saga_start_row[],
                NULL, NULL, {no_rows})"
        );
        let end = format!(
            "SELECT saga.flush(9001, 'token', 3000000, NULL, NULL,
                ARRAY[ROW('midnight', 'k', 1, 2, 'E', NULL, 'completed', NULL, '')]::saga.saga_end_row[],
                {no_rows})"
        );
        run(&mut session, &start).await;
        run(&mut session, &end).await;
    }
    let ended = "SELECT count(*) FROM saga.saga_done WHERE type = 'midnight' AND key = 'k'";
    assert_eq!(number(&mut session, ended).await, 2);
    let saga = host::get(&target, "/v1/sagas/midnight/k").await.unwrap();
    assert_eq!(saga["startedAt"], "1970-01-01T00:00:02.000000Z", "the later one: {saga}");
    let page = host::get(&target, "/v1/sagas?type=midnight&limit=1").await.unwrap();
    let next = format!("/v1/sagas?type=midnight&limit=1&cursor={}", page["next"].as_str().unwrap());
    let rest = host::get(&target, &next).await.unwrap();
    assert_eq!(rest["sagas"][0]["startedAt"], "1970-01-01T00:00:01.000000Z", "{rest}");
}
