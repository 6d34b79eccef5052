//! The SQL capability, as a guest sees it.

use saga_host::{
    capability::postgres::{SqlLimits, execute, query},
    model::bindings::saga::plugin::{
        postgres::{Column, Param, SqlError, Table, Values},
        types::Uuid,
    },
    store::session::Session,
};
use sqlx::{AssertSqlSafe, Connection};

use crate::support;

const LIMITS: SqlLimits =
    SqlLimits { rows_max: 1_000, result_bytes_max: 100_000, distinct_statements_max: 50 };

/// A guest inside a transaction that is never committed.
struct Guest(Session);

impl Guest {
    async fn new() -> Self {
        let mut guest = Self(Session { connection: support::postgres().await });
        guest.script("BEGIN").await;
        guest
    }

    /// Runs SQL as a migration or the host does.
    async fn script(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.0.connection).await.unwrap();
    }

    async fn query(&mut self, sql: &str, params: Vec<Param>) -> Result<Table, SqlError> {
        query(&mut self.0, &LIMITS, sql.to_owned(), params).await.map_err(|failed| failed.error)
    }

    async fn execute(&mut self, sql: &str, params: Vec<Param>) -> Result<u64, SqlError> {
        execute(&mut self.0, &LIMITS, sql.to_owned(), params).await.map_err(|failed| failed.error)
    }

    /// The only column of a result, in its Debug form.
    async fn column(&mut self, sql: &str, params: Vec<Param>) -> String {
        let table = self.query(sql, params).await.unwrap();
        format!("{:?}", table.columns.first().unwrap())
    }

    async fn sqlstate(&mut self, sql: &str, params: Vec<Param>) -> String {
        self.script("SAVEPOINT attempt").await;
        let error = self.query(sql, params).await.unwrap_err();
        self.script("ROLLBACK TO attempt").await;
        error.sqlstate
    }
}

fn text(value: &str) -> Param {
    Param::Text(value.to_owned())
}

fn many(values: Values) -> Param {
    Param::Many(Column { values, nulls: Vec::new() })
}

#[tokio::test]
async fn every_type_is_read_as_its_column() {
    let mut guest = Guest::new().await;
    guest.script("CREATE TYPE pg_temp.mood AS ENUM ('glad', 'sad')").await;
    for (sql, column) in [
        ("VALUES (true), (null), (false)", "Booleans([true, false, false]), nulls: [1]"),
        ("SELECT 7::int2", "Integers([7])"),
        ("SELECT -7::int4", "Integers([-7])"),
        ("SELECT 9000000000::int8", "Integers([9000000000])"),
        ("SELECT 1.5::float4", "Floats([1.5])"),
        ("SELECT 2.25::float8", "Floats([2.25])"),
        ("SELECT 'é'::text", r#"Texts(["é"])"#),
        ("SELECT 'a'::varchar(3)", r#"Texts(["a"])"#),
        ("SELECT 'a'::char(3)", r#"Texts(["a  "])"#),
        ("SELECT 'a'::name", r#"Texts(["a"])"#),
        ("SELECT 'sad'::pg_temp.mood", r#"Texts(["sad"])"#),
        (r"SELECT '\x0102'::bytea", "Bytes([[1, 2]])"),
        ("SELECT '00000000-0000-0001-0000-000000000002'::uuid", "Uuids([Uuid { hi: 1, lo: 2 }])"),
        ("SELECT '1970-01-01 00:00:01.000002Z'::timestamptz", "Timestamps([1000002])"),
        ("SELECT '1970-01-01 00:00:01'::timestamp", "Timestamps([1000000])"),
        ("SELECT 'infinity'::timestamptz", "Timestamps([9223372036854775807])"),
        ("SELECT '1969-12-31'::date", "Dates([-1])"),
        ("SELECT -12345.6700::numeric", r#"Numerics(["-12345.6700"])"#),
        ("SELECT 'NaN'::numeric", r#"Numerics(["NaN"])"#),
        (r#"SELECT '{"a": 1}'::jsonb"#, r#"Jsons(["{\"a\": 1}"])"#),
        ("SELECT '[1]'::json", r#"Jsons(["[1]"])"#),
    ] {
        let found = guest.column(sql, vec![]).await;
        assert!(found.contains(column), "{sql}: {found}");
    }
}

#[tokio::test]
async fn a_result_has_names_and_a_row_count() {
    let mut guest = Guest::new().await;
    let table = guest.query("SELECT 1 AS a, 'x' AS a FROM generate_series(1, 3)", vec![]).await.unwrap();
    assert_eq!(
        (table.rows, table.names.as_slice(), table.columns.len()),
        (3, &["a".into(), "a".into()][..], 2)
    );
    let empty = guest.query("SELECT 1 WHERE false", vec![]).await.unwrap();
    assert_eq!((empty.rows, empty.columns.len()), (0, 1));
}

#[tokio::test]
async fn parameters_are_sent_as_the_expected_type() {
    let mut guest = Guest::new().await;
    guest
        .script(
            "CREATE TYPE pg_temp.mood AS ENUM ('glad', 'sad');
             CREATE DOMAIN pg_temp.code AS text CHECK (value <> '');
             CREATE DOMAIN pg_temp.positive AS int CHECK (value > 0); CREATE EXTENSION IF NOT EXISTS citext",
        )
        .await;
    for (of, param, printed) in [
        ("int2", Param::Integer(-3), "-3"),
        ("int4", Param::Integer(3), "3"),
        ("int8", Param::Integer(1 << 40), "1099511627776"),
        ("numeric", Param::Integer(-120_000), "-120000"),
        ("float4", Param::Integer(2), "2"),
        ("float8", Param::Float(0.1), "0.1"),
        ("float4", Param::Float(0.5), "0.5"),
        ("pg_temp.positive", Param::Integer(1), "1"),
        ("boolean", Param::Boolean(true), "true"),
        ("text", text("é"), "é"),
        ("varchar", text("a"), "a"),
        ("char(2)", text("a"), "a"),
        ("name", text("a"), "a"),
        ("citext", text("aB"), "aB"),
        ("pg_temp.mood", text("sad"), "sad"),
        ("pg_temp.code", text("c"), "c"),
        ("bytea", Param::Bytes(vec![1, 255]), r"\x01ff"),
        ("uuid", Param::Uuid(Uuid { hi: 1, lo: 2 }), "00000000-0000-0001-0000-000000000002"),
        ("timestamptz", Param::Timestamp(1_000_002), "1970-01-01 00:00:01.000002+00"),
        ("timestamp", Param::Timestamp(-1_000_000), "1969-12-31 23:59:59"),
        ("timestamptz", Param::Timestamp(i64::MIN), "-infinity"),
        ("date", Param::Date(-1), "1969-12-31"),
        ("numeric", Param::Numeric("-0.000120".into()), "-0.000120"),
        ("numeric", Param::Numeric("123456789.5".into()), "123456789.5"),
        ("json", Param::Json("[1]".into()), "[1]"),
        ("jsonb", Param::Json(r#"{"a":1}"#.into()), r#"{"a": 1}"#),
    ] {
        guest.script("SET LOCAL timezone = 'UTC'").await;
        let found = guest.query(&format!("SELECT ($1::{of})::text"), vec![param]).await.unwrap();
        let Values::Texts(list) = &found.columns.first().unwrap().values else { panic!("{of}") };
        assert_eq!(list.as_slice(), [printed.to_owned()], "{of}");
    }
}

#[tokio::test]
async fn a_null_first_and_a_value_later_share_a_plan() {
    let mut guest = Guest::new().await;
    guest.script("CREATE TEMP TABLE t (a int, b numeric)").await;
    let sql = "INSERT INTO t (a, b) VALUES ($1, $2)";
    assert_eq!(guest.execute(sql, vec![Param::Null, Param::Null]).await.unwrap(), 1);
    assert_eq!(guest.execute(sql, vec![Param::Integer(5), Param::Integer(6)]).await.unwrap(), 1);
    assert_eq!(guest.execute(sql, vec![Param::Integer(5), Param::Numeric("6.5".into())]).await.unwrap(), 1);
    let sum = guest.column("SELECT sum(a + b)::text FROM t", vec![]).await;
    assert!(sum.contains(r#""22.5""#), "{sum}");
}

#[tokio::test]
async fn one_statement_serves_a_batch() {
    let mut guest = Guest::new().await;
    guest.script("CREATE TYPE pg_temp.mood AS ENUM ('glad', 'sad')").await;
    guest.script("CREATE DOMAIN pg_temp.code AS text").await;
    guest
        .script("CREATE TEMP TABLE t (id int PRIMARY KEY, qty int, mood pg_temp.mood, code pg_temp.code)")
        .await;
    let inserted = guest
        .execute(
            "INSERT INTO t
             SELECT * FROM unnest($1::int[], $2::int[], $3::pg_temp.mood[], $4::pg_temp.code[])",
            vec![
                many(Values::Integers(vec![1, 2, 3])),
                Param::Many(Column { values: Values::Integers(vec![10, 0, 30]), nulls: vec![1] }),
                many(Values::Texts(vec!["sad".into(), "glad".into(), "sad".into()])),
                many(Values::Texts(vec!["a".into(), "b".into(), "c".into()])),
            ],
        )
        .await
        .unwrap();
    assert_eq!(inserted, 3);
    let updated = guest
        .execute(
            "UPDATE t SET qty = v.qty FROM unnest($1::int[], $2::int[]) v (id, qty) WHERE t.id = v.id",
            vec![many(Values::Integers(vec![3, 2, 9])), many(Values::Integers(vec![31, 21, 1]))],
        )
        .await
        .unwrap();
    assert_eq!(updated, 2);
    let read = guest
        .column(
            "SELECT qty FROM t WHERE id = ANY ($1) ORDER BY id",
            vec![many(Values::Integers(vec![1, 2, 3]))],
        )
        .await;
    assert!(read.contains("[10, 21, 31]"), "{read}");
    let none =
        guest.query("SELECT qty FROM t WHERE id = ANY ($1)", vec![many(Values::Integers(vec![]))]).await;
    assert_eq!(none.unwrap().rows, 0);
}

#[tokio::test]
async fn every_kind_of_array() {
    let mut guest = Guest::new().await;
    guest.script("CREATE EXTENSION IF NOT EXISTS citext; SET LOCAL timezone = 'UTC'").await;
    for (of, values, printed) in [
        ("boolean", Values::Booleans(vec![true, false]), "{t,f}"),
        ("int2", Values::Integers(vec![1, -1]), "{1,-1}"),
        ("int8", Values::Integers(vec![1 << 40]), "{1099511627776}"),
        ("numeric", Values::Numerics(vec!["1.50".into()]), "{1.50}"),
        ("float8", Values::Floats(vec![0.5]), "{0.5}"),
        ("text", Values::Texts(vec![String::new(), "a b".into()]), r#"{"","a b"}"#),
        ("citext", Values::Texts(vec!["A".into()]), "{A}"),
        ("bytea", Values::Bytes(vec![vec![1]]), r#"{"\\x01"}"#),
        ("uuid", Values::Uuids(vec![Uuid { hi: 0, lo: 1 }]), "{00000000-0000-0000-0000-000000000001}"),
        ("timestamptz", Values::Timestamps(vec![0]), r#"{"1970-01-01 00:00:00+00"}"#),
        ("date", Values::Dates(vec![0]), "{1970-01-01}"),
        ("jsonb", Values::Jsons(vec!["{}".into()]), r#"{"{}"}"#),
    ] {
        let found = guest.query(&format!("SELECT ($1::{of}[])::text"), vec![many(values)]).await.unwrap();
        let Values::Texts(list) = &found.columns.first().unwrap().values else { panic!("{of}") };
        assert_eq!(list.as_slice(), [printed.to_owned()], "{of}");
    }
}

#[tokio::test]
async fn a_mismatch_names_the_parameter_and_the_remedy() {
    let mut guest = Guest::new().await;
    let error = guest.query("SELECT 1 + $1::int4", vec![text("5")]).await.unwrap_err();
    assert_eq!(error.sqlstate, "SG004");
    assert_eq!(
        error.message,
        "$1 is a text, but Postgres expects int4: pass what it expects, or cast in the statement: \
         $1::text::int4"
    );
    let fixed = guest.column("SELECT 1 + $1::text::int4", vec![text("5")]).await;
    assert!(fixed.contains("[6]"), "{fixed}");
    for (sql, params, sqlstate) in [
        ("SELECT $1::int4", vec![], "SG004"),
        ("SELECT 1", vec![Param::Null], "SG004"),
        ("SELECT $1::int4[]", vec![Param::Integer(1)], "SG004"),
        ("SELECT $1::int4", vec![many(Values::Integers(vec![1]))], "SG004"),
        ("SELECT ($1::interval)::text", vec![text("1 day")], "SG004"),
        ("SELECT $1::int2", vec![Param::Integer(40_000)], "22003"),
        ("SELECT $1::numeric", vec![Param::Numeric("1e5".into())], "22P02"),
        ("SELECT $1::text", vec![text("a\0b")], "22021"),
        ("SELECT interval '1 day'", vec![], "SG004"),
        ("SELECT ARRAY[1]", vec![], "SG004"),
        ("SELECT pg_sleep(0)", vec![], "SG004"),
    ] {
        assert_eq!(guest.sqlstate(sql, params).await, sqlstate, "{sql}");
    }
}

#[tokio::test]
async fn a_result_over_a_limit_is_an_error_and_never_truncated() {
    let mut guest = Guest::new().await;
    let series = "SELECT i FROM generate_series(1, $1::int) i";
    assert_eq!(guest.query(series, vec![Param::Integer(1_000)]).await.unwrap().rows, 1_000);
    assert_eq!(guest.sqlstate(series, vec![Param::Integer(1_001)]).await, "SG001");
    let long = "SELECT repeat('x', $1)";
    assert_eq!(guest.query(long, vec![Param::Integer(99_992)]).await.unwrap().rows, 1);
    assert_eq!(guest.sqlstate(long, vec![Param::Integer(99_993)]).await, "SG002");
    assert_eq!(guest.execute(series, vec![Param::Integer(5_000)]).await.unwrap(), 5_000);
}

#[tokio::test]
async fn errors_of_postgres_reach_the_guest() {
    let mut guest = Guest::new().await;
    guest.script("CREATE TEMP TABLE t (id int CONSTRAINT one_of_each PRIMARY KEY)").await;
    guest.execute("INSERT INTO t VALUES (1)", vec![]).await.unwrap();
    guest.script("SAVEPOINT before").await;
    let error = guest.execute("INSERT INTO t VALUES ($1)", vec![Param::Integer(1)]).await.unwrap_err();
    assert_eq!((error.sqlstate.as_str(), error.constraint.as_deref()), ("23505", Some("one_of_each")));
    assert_eq!(error.detail.as_deref(), Some("Key (id)=(1) already exists."));
    guest.script("ROLLBACK TO before").await;
    let error = guest.query("SELECT nothing FROM t", vec![]).await.unwrap_err();
    assert_eq!((error.sqlstate.as_str(), error.position), ("42703", Some(8)));
}

#[tokio::test]
async fn a_lost_connection_is_a_fault_of_the_environment() {
    let mut guest = Guest::new().await;
    let pid = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()")
        .fetch_one(&mut guest.0.connection)
        .await
        .unwrap();
    let mut other = support::postgres().await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut other).await.unwrap();
    let error = guest.query("SELECT 1", vec![]).await.unwrap_err();
    assert!(["57P01", "08006"].contains(&error.sqlstate.as_str()), "{error:?}");
    let error = guest.query("SELECT 1", vec![]).await.unwrap_err();
    assert_eq!(error.sqlstate, "08006");
}

#[tokio::test]
async fn only_one_statement_runs_and_the_transaction_stays_open() {
    let mut guest = Guest::new().await;
    let transaction = guest.column("SELECT pg_current_xact_id()::text", vec![]).await;
    for (sql, sqlstate) in [
        ("COMMIT", "SG003"),
        ("/* SELECT */ ROLLBACK", "SG003"),
        ("SET ROLE postgres", "SG003"),
        ("DO $$ BEGIN COMMIT; END $$", "SG003"),
        ("SELECT 1; COMMIT", "42601"),
        ("WITH a AS (COMMIT) SELECT 1", "42601"),
        ("SELECT 1;\0COMMIT", "SG003"),
        ("WITH a AS (SELECT 1) COPY (SELECT 1) TO STDOUT", "42601"),
    ] {
        assert_eq!(guest.sqlstate(sql, vec![]).await, sqlstate, "{sql}");
    }
    guest.query("WITH a AS (SELECT 1) SELECT * FROM a;", vec![]).await.unwrap();
    assert_eq!(guest.column("SELECT pg_current_xact_id()::text", vec![]).await, transaction);
}

#[tokio::test]
async fn statements_are_prepared_once_and_their_number_is_bounded() {
    let mut guest = Guest::new().await;
    for round in 0..3 {
        for value in 0..5 {
            guest.query("SELECT $1::int", vec![Param::Integer(value)]).await.unwrap();
        }
        assert_eq!(guest.0.connection.cached_statements_size(), 1, "{round}");
    }
    for value in 0..200 {
        guest.query(&format!("SELECT {value}"), vec![]).await.unwrap();
        assert!(guest.0.connection.cached_statements_size() <= LIMITS.distinct_statements_max + 1);
    }
}

#[tokio::test]
async fn a_prepared_statement_survives_a_schema_change() {
    let mut guest = Guest::new().await;
    guest.script("CREATE TEMP TABLE t AS SELECT 1 AS a; SAVEPOINT before").await;
    guest.query("SELECT * FROM t", vec![]).await.unwrap();
    guest.script("ALTER TABLE t ADD b int; SAVEPOINT after").await;
    assert_eq!(guest.query("SELECT * FROM t", vec![]).await.unwrap_err().sqlstate, "40001");
    guest.script("ROLLBACK TO after").await;
    assert_eq!(guest.query("SELECT * FROM t", vec![]).await.unwrap().columns.len(), 2);
}
