//! A database of its own, into which the checks put all that they have read, and in which invariants are
//! statements.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::archive::Archived;
use crate::chaos::description::{Invariant, Relation, Table, View};

const NAME: &str = "saga_check";
const OFFENDERS_SHOWN: i64 = 5;
const SCHEMA: &str = "
    CREATE TABLE record (
        topic text, part int, place bigint, era int, key text, value text, body jsonb, id text, ours boolean,
        content bigint);
    CREATE TABLE placed (id text, asked jsonb, answer jsonb);
    CREATE TABLE setup (asked jsonb, answer jsonb);";
/// The first record of each id, with the unit that has published it.
const MESSAGES: &str = "
    CREATE TABLE message AS
        SELECT DISTINCT ON (id) *, regexp_replace(id, ':[^:]*$', '') AS unit
          FROM record WHERE ours AND id IS NOT NULL ORDER BY id, era, place;
    CREATE INDEX ON message (id);
    CREATE INDEX ON message (topic, key);
    CREATE INDEX ON placed (id);
    ANALYZE";

/// The database, filled step by step.
pub(super) struct Scratch(PgConnection);

impl Scratch {
    /// Creates it on a server; replaces one of an earlier check.
    pub(super) async fn create(postgres: &str) -> Result<Self> {
        let server = PgConnectOptions::from_str(postgres).context("the Postgres URL")?;
        let mut first = server.connect().await.context("connecting to Postgres")?;
        for statement in [format!("DROP DATABASE IF EXISTS {NAME}"), format!("CREATE DATABASE {NAME}")] {
            run(&mut first, statement).await?;
        }
        first.close().await?;
        let mut scratch = server.database(NAME).connect().await.context("connecting to Postgres")?;
        run(&mut scratch, SCHEMA.to_owned()).await?;
        Ok(Self(scratch))
    }

    /// Adds all records, and what the clients know: (id, values, answer) of the load, (values, answer) of the
    /// setup.
    pub(super) async fn fill(
        &mut self,
        records: &[Archived],
        placed: &[(String, Value, Value)],
        setup: &[(Value, Value)],
    ) -> Result<()> {
        fn column<T>(records: &[Archived], of: impl Fn(&Archived) -> T) -> Vec<T> {
            records.iter().map(of).collect()
        }
        sqlx::query(
            "INSERT INTO record SELECT t, p, o, e, k, v, b::jsonb, i, u, c
               FROM unnest($1::text[], $2::int[], $3::bigint[], $4::int[], $5::text[], $6::text[],
                           $7::text[], $8::text[], $9::boolean[], $10::bigint[])
                    r (t, p, o, e, k, v, b, i, u, c)",
        )
        .bind(column(records, |record| record.topic.clone()))
        .bind(column(records, |record| record.partition))
        .bind(column(records, |record| record.offset))
        .bind(column(records, |record| record.era))
        .bind(column(records, |record| record.key.clone()))
        .bind(column(records, |record| record.value.clone()))
        .bind(column(records, |record| record.value.as_deref().and_then(json)))
        .bind(column(records, |record| record.id.clone()))
        .bind(column(records, |record| record.ours))
        .bind(column(records, |record| record.content))
        .execute(&mut self.0)
        .await
        .context("storing the records")?;
        let texts = |of: fn(&(String, Value, Value)) -> String| placed.iter().map(of).collect::<Vec<_>>();
        sqlx::query(
            "INSERT INTO placed SELECT i, a::jsonb, b::jsonb
               FROM unnest($1::text[], $2::text[], $3::text[]) p (i, a, b)",
        )
        .bind(texts(|placed| placed.0.clone()))
        .bind(texts(|placed| placed.1.to_string()))
        .bind(texts(|placed| placed.2.to_string()))
        .execute(&mut self.0)
        .await
        .context("storing the accepted requests")?;
        for (asked, answer) in setup {
            let insert = sqlx::query("INSERT INTO setup SELECT $1::text::jsonb, $2::text::jsonb");
            insert.bind(asked.to_string()).bind(answer.to_string()).execute(&mut self.0).await?;
        }
        run(&mut self.0, MESSAGES.to_owned()).await
    }

    /// Adds a table with these rows, a list in JSON.
    pub(super) async fn table(&mut self, table: &Table, rows: &str) -> Result<()> {
        let Table { name, columns, .. } = table;
        let first = columns.split_whitespace().next().context("no columns")?;
        run(&mut self.0, format!("CREATE TABLE IF NOT EXISTS {name} ({columns})")).await?;
        let insert =
            format!("INSERT INTO {name} SELECT * FROM jsonb_to_recordset($1::jsonb) AS r ({columns})");
        sqlx::query(AssertSqlSafe(insert))
            .bind(rows)
            .execute(&mut self.0)
            .await
            .with_context(|| format!("filling the table {name}"))?;
        run(&mut self.0, format!("CREATE INDEX ON {name} ({first}); ANALYZE {name}")).await
    }

    /// Adds a selection.
    pub(super) async fn view(&mut self, view: &View) -> Result<()> {
        let View { name, select } = view;
        run(&mut self.0, format!("CREATE TABLE {name} AS {select}; ANALYZE {name}")).await
    }

    /// The number that a statement selects.
    pub(super) async fn count(&mut self, select: &str) -> Result<i64> {
        let row =
            sqlx::query(AssertSqlSafe(format!("SELECT ({select})::bigint"))).fetch_one(&mut self.0).await;
        row.and_then(|row| row.try_get(0)).with_context(|| select.to_owned())
    }

    /// The name of an invariant with its figures.
    pub(super) async fn name(&mut self, invariant: &Invariant) -> String {
        let Some(figures) = &invariant.figures else { return invariant.name.clone() };
        let row = sqlx::query(AssertSqlSafe(figures.clone())).fetch_one(&mut self.0).await;
        match row.and_then(|row| row.try_get::<Option<String>, _>(0)) {
            Ok(text) => format!("{}: {}", invariant.name, text.unwrap_or_default()),
            Err(error) => format!("{}: {error}", invariant.name),
        }
    }

    /// Fails with the first rows that break an invariant.
    pub(super) async fn hold(&mut self, invariant: &Invariant) -> Result<()> {
        match invariant.relation()? {
            Relation::None(select) => self.nothing(select).await,
            Relation::Some(select) => {
                let rows = self.rows(select).await?;
                ensure!(!rows.is_empty(), "nothing is selected");
                Ok(())
            }
            Relation::Equal([first, second]) => {
                self.nothing(&format!(
                    "SELECT 'only in the first' AS place, x.* FROM ({first} EXCEPT ALL {second}) x
                     UNION ALL
                     SELECT 'only in the second', x.* FROM ({second} EXCEPT ALL {first}) x"
                ))
                .await
            }
        }
    }

    async fn nothing(&mut self, select: &str) -> Result<()> {
        let rows = self.rows(select).await?;
        let Some(first) = rows.first() else { return Ok(()) };
        let total: i64 = first.try_get(1)?;
        let mut shown = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        if total > OFFENDERS_SHOWN {
            shown.push(format!("and {} more", total - OFFENDERS_SHOWN));
        }
        bail!(shown.join("; "))
    }

    /// The first rows as text, each with the number of all.
    async fn rows(&mut self, select: &str) -> Result<Vec<PgRow>> {
        let statement =
            format!("SELECT to_jsonb(r)::text, count(*) OVER () FROM ({select}) r LIMIT {OFFENDERS_SHOWN}");
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut self.0).await;
        rows.with_context(|| select.to_owned())
    }
}

/// The text, when it is JSON that Postgres stores.
fn json(text: &str) -> Option<String> {
    let storable = !text.contains("\\u0000") && serde_json::from_str::<Value>(text).is_ok();
    storable.then(|| text.to_owned())
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(connection).await;
    done.map(drop).with_context(|| statement)
}
