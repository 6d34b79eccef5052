//! Fills the databases with finished sagas: copies of the rows of real ones, with other ids and times.
//!
//! A copy's id is a version 7 UUID from before the run, one saga per millisecond. So copies are in the
//! indexes where a host that ran for that long would have put them, and real sagas come after them.

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use saga_testkit::database::Databases;

const TEMPLATES: i64 = 1000;

/// A table in which a finished saga leaves a row, and the column that identifies the saga.
struct Table {
    database: &'static str,
    name: &'static str,
    key: &'static str,
}

const TABLES: [Table; 5] = [
    Table { database: "cmd-order", name: "public.customer_order", key: "order_id" },
    Table { database: "cmd-order", name: "saga.saga_done", key: "key" },
    Table { database: "cmd-inventory", name: "public.deduction_decision", key: "order_id" },
    Table { database: "query-order", name: "public.order_view", key: "order_id" },
    Table { database: "notification", name: "public.order_notification", key: "order_id" },
];

/// What has been filled in.
pub(super) struct Fill {
    /// The time of the first copy, in milliseconds since 1970.
    first_ms: i64,
    filled: i64,
}

impl Fill {
    /// For up to `sagas` copies, all of them from before `now_ms`.
    pub(super) fn before(now_ms: i64, sagas: i64) -> Self {
        Self { first_ms: now_ms - sagas, filled: 0 }
    }

    /// Adds `count` finished sagas, then lets Postgres vacuum and analyse as it would have done meanwhile.
    ///
    /// # Errors
    /// No saga has ended yet, or as Postgres reports.
    pub(super) async fn add(&mut self, databases: &Databases, count: i64) -> Result<()> {
        let templates = templates(databases).await?;
        for table in &TABLES {
            let mut connection = databases.of(table.database)?.acquire().await?;
            let copied = self.copy(&mut connection, table, &templates, count).await;
            let copied = copied.with_context(|| format!("fill {} of {}", table.name, table.database))?;
            ensure!(copied == count.unsigned_abs(), "{}: {copied} rows for {count} sagas", table.name);
            let tidy = format!("VACUUM (ANALYZE) {}", table.name);
            sqlx::raw_sql(AssertSqlSafe(tidy)).execute(&mut *connection).await?;
        }
        sqlx::raw_sql("CHECKPOINT").execute(databases.of(TABLES[0].database)?).await?;
        self.filled += count;
        Ok(())
    }

    async fn copy(
        &self,
        connection: &mut PgConnection,
        table: &Table,
        ids: &[String],
        count: i64,
    ) -> Result<u64> {
        let columns = columns(connection, table).await?;
        sqlx::raw_sql("DROP TABLE IF EXISTS pg_temp.template").execute(&mut *connection).await?;
        let template = format!(
            "CREATE TEMP TABLE template AS SELECT m.place - 1 AS template_place, t.*
               FROM unnest('{{{}}}'::text[]) WITH ORDINALITY m (id, place) JOIN {} t ON t.{}::text = m.id",
            ids.join(","),
            table.name,
            table.key
        );
        let templates =
            sqlx::raw_sql(AssertSqlSafe(template)).execute(&mut *connection).await?.rows_affected();
        ensure!(templates == ids.len() as u64, "{templates} rows of {} sagas", ids.len());
        let copy = statement(table, &columns);
        let copied = sqlx::query(AssertSqlSafe(copy))
            .bind(self.filled)
            .bind(self.filled + count)
            .bind(self.first_ms)
            .bind(i64::try_from(ids.len())?)
            .execute(connection)
            .await?;
        Ok(copied.rows_affected())
    }
}

/// The first id of a saga that a host started at `now_ms` or later.
pub(super) fn first_real(now_ms: i64) -> Uuid {
    Uuid::from_u128((now_ms.unsigned_abs() as u128) << 80)
}

/// The latest sagas that have ended, with the endings in their usual mix.
async fn templates(databases: &Databases) -> Result<Vec<String>> {
    let query = "SELECT order_id::text FROM public.customer_order WHERE status <> 'PENDING_CONFIRMATION'
                  ORDER BY order_id DESC LIMIT $1";
    let rows = sqlx::query(query).bind(TEMPLATES).fetch_all(databases.of("cmd-order")?).await?;
    ensure!(!rows.is_empty(), "no saga has ended yet: there is none to copy");
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Names and types of the columns to write; Postgres itself generates the others.
async fn columns(connection: &mut PgConnection, table: &Table) -> Result<Vec<(String, String)>> {
    let query = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
                  WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
                    AND attidentity = '' AND attgenerated = ''
                  ORDER BY attnum";
    let rows = sqlx::query(query).bind(table.name).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// `$1` is the number below the first, `$2` the last number, `$3` the time of the first copy, `$4` the number
/// of templates.
fn statement(table: &Table, columns: &[(String, String)]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let values: Vec<String> = columns.iter().map(|(name, kind)| value(table, name, kind)).collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM generate_series($1::bigint + 1, $2::bigint) n
           JOIN template t ON t.template_place = n % $4::bigint
          CROSS JOIN LATERAL (SELECT t.\"{}\"::text AS before, $3::bigint + n - 1 AS ms) o
          CROSS JOIN LATERAL (
              SELECT ('x' || left(replace(o.before, '-', ''), 12))::bit(48)::bigint AS ms_before,
                    (lpad(to_hex(o.ms), 12, '0') || '7' || left(md5(n::text), 3) || '8'
                      || right(md5(n::text), 15))::uuid::text AS after) w
          ORDER BY n",
        table.name,
        names.join(", "),
        values.join(", "),
        table.key,
    )
}

fn value(table: &Table, name: &str, kind: &str) -> String {
    match kind {
        _ if name == table.key => format!("w.after::{kind}"),
        "text" => format!("replace(t.\"{name}\", o.before, w.after)"),
        "timestamp with time zone" => format!("t.\"{name}\" + (o.ms - w.ms_before) * interval '1 ms'"),
        _ => format!("t.\"{name}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::{TABLES, first_real, value};

    #[test]
    fn a_copy_has_its_own_id_wherever_the_template_names_it() {
        let done = &TABLES[1];
        assert_eq!(value(done, "key", "text"), "w.after::text");
        assert_eq!(value(done, "log", "text"), "replace(t.\"log\", o.before, w.after)");
        assert_eq!(value(done, "day", "date"), "t.\"day\"");
        assert!(value(done, "ended_at", "timestamp with time zone").ends_with("interval '1 ms'"));
    }

    #[test]
    fn real_ids_come_after_the_moment() {
        assert_eq!(first_real(0x0193_a1b2_c3d4).to_string(), "0193a1b2-c3d4-0000-0000-000000000000");
    }
}
