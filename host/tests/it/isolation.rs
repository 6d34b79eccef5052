//! What a guest's statements cannot do: lift their limits, outlive their transaction, create objects, or
//! touch what belongs to another.

use saga_host::{
    capability::postgres::{SqlLimits, query},
    claims::lane_lease::LaneLease,
    config::MigrationsMode,
    model::{
        bindings::saga::plugin::postgres::{Column, SqlError, Values},
        migration::Migration,
        policy::Policy,
    },
    store::{Database, Migrations, PluginRole, ProvisionError, Server, session::Session},
};
use sqlx::AssertSqlSafe;

use crate::support;

const LIMITS: SqlLimits =
    SqlLimits { rows_max: 1_000, result_bytes_max: 100_000, distinct_statements_max: 50 };
const UNIT_MS_MAX: u32 = 300;

fn policy(name: &str) -> Policy {
    let text = format!("name = '{name}'\n[database]\nname = 'any'\n[limits]\nunit_ms_max = {UNIT_MS_MAX}");
    Policy::parse(name, &text).unwrap()
}

/// A provisioned database with two plugins, and a session of the first one inside a unit.
struct House {
    server: Server,
    database: Database,
    roles: [PluginRole; 2],
    leases: [LaneLease; 2],
    guest: Session,
}

impl House {
    async fn new(tag: &str) -> Self {
        let server = Server::new(&support::postgres_url()).unwrap();
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let database = server.database(&format!("isolation_{tag}_{mark}"));
        let role = |plugin: &str| PluginRole {
            plugin: plugin.to_owned(),
            name: format!("plugin_{plugin}_{}", &mark[..8]),
        };
        let roles = [role("ours"), role("theirs")];
        for role in &roles {
            server
                .provision(&database, role, &alone(&migrations(&role.plugin)), MigrationsMode::Apply)
                .await
                .unwrap();
        }
        let leases = [
            LaneLease::acquire(&database, &roles[0], "kafka", "test").await.unwrap(),
            LaneLease::acquire(&database, &roles[1], "kafka", "test").await.unwrap(),
        ];
        let connection = database.connect_plugin(&roles[0], &policy("ours")).await.unwrap();
        let mut house = Self { server, database, roles, leases, guest: Session { connection } };
        let open = open(&house.leases[0], 0);
        house.script(&format!("RESET ALL; BEGIN; {open}; SAVEPOINT start")).await;
        house
    }

    /// Runs SQL on the lane's connection, as the host does.
    async fn script(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.guest.connection).await.unwrap();
    }

    /// Runs a guest's statement, then rolls back to before it.
    async fn attempt(&mut self, sql: &str) -> Result<Vec<Column>, SqlError> {
        let result = query(&mut self.guest, &LIMITS, sql.to_owned(), vec![]).await;
        self.script("ROLLBACK TO start").await;
        result.map(|table| table.columns).map_err(|failed| failed.error)
    }

    async fn refused(&mut self, sqlstate: &str, statements: &[&str]) {
        for sql in statements {
            let error = self.attempt(sql).await.expect_err(sql);
            assert_eq!(error.sqlstate, sqlstate, "{sql}: {}", error.message);
        }
    }

    async fn integer(&mut self, sql: &str) -> i64 {
        let columns = self.attempt(sql).await.unwrap();
        let [Column { values: Values::Integers(list), .. }] = columns.as_slice() else {
            panic!("{columns:?}")
        };
        list[0]
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let owner = format!("DROP ROLE \"{}\"", self.database.owner_role());
        let roles = self.roles.iter().map(|role| format!("DROP ROLE {}", role.name)).chain([owner]);
        let database = format!("DROP DATABASE {} WITH (FORCE)", self.database.name);
        let statements: Vec<String> = std::iter::once(database).chain(roles).collect();
        support::clean_up(async {
            let mut admin = support::postgres().await;
            for statement in statements {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
            }
        });
    }
}

fn migrations(plugin: &str) -> Vec<Migration> {
    vec![Migration {
        name: "0001_tables.sql".into(),
        sql: format!("CREATE TABLE {plugin} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, qty int)"),
    }]
}

fn open(lease: &LaneLease, unit: i64) -> String {
    let LaneLease { slot, epoch, .. } = lease;
    format!("SELECT saga.open({slot}, {epoch}, {unit}, 1000, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')")
}

const DENIED: &str = "42501";

#[tokio::test]
async fn a_guest_cannot_lift_its_limits() {
    let mut house = House::new("limits").await;
    house
        .refused(
            DENIED,
            &[
                "SELECT set_config('statement_timeout', '0', true)",
                "SELECT set_config('role', 'postgres', true)",
                "UPDATE pg_settings SET setting = '0' WHERE name = 'statement_timeout'",
            ],
        )
        .await;
    house.refused("SG003", &["SET ROLE postgres", "SET statement_timeout = 0", "RESET ALL", "COMMIT"]).await;
    house
        .refused(
            "57014",
            &["SELECT pg_sleep(20)::text", "SELECT count(*) FROM generate_series(1, 1e12::int8)"],
        )
        .await;
}

#[tokio::test]
async fn a_guest_creates_nothing() {
    let mut house = House::new("create").await;
    house
        .refused(
            DENIED,
            &[
                "SELECT 1 AS seq INTO TEMP outbox",
                "SELECT 1 AS seq INTO outbox",
                "WITH a AS (SELECT 1 AS seq) SELECT seq INTO TEMP outbox FROM a",
                "SELECT lo_create(0)::text",
                "SELECT lo_from_bytea(0, 'a')::text",
                "SELECT lo_import('/etc/passwd')::text",
            ],
        )
        .await;
    house
        .refused(
            "SG003",
            &["CREATE TABLE a (a int)", "CREATE FUNCTION f() RETURNS int", "COPY ours TO STDOUT"],
        )
        .await;
}

#[tokio::test]
async fn nothing_outlives_the_transaction_or_ends_the_session() {
    let mut house = House::new("session").await;
    house
        .refused(
            DENIED,
            &[
                "SELECT pg_advisory_lock(1)::text",
                "SELECT pg_advisory_xact_lock(1)::text",
                "SELECT pg_try_advisory_lock_shared(1)",
                "SELECT pg_notify('a', 'b')::text",
                "SELECT pg_logical_emit_message(false, 'a', 'b')::text",
                "SELECT pg_terminate_backend(pg_backend_pid())",
                "SELECT pg_cancel_backend(pg_backend_pid())",
                "SELECT query_to_xml('SELECT 1', true, true, '')::text",
            ],
        )
        .await;
}

#[tokio::test]
async fn a_guest_sees_only_what_is_its_own() {
    let mut house = House::new("sight").await;
    house
        .refused(
            DENIED,
            &[
                "SELECT slot FROM saga.lane",
                "SELECT body FROM saga.outbox",
                "SELECT key FROM saga.saga_live",
                "INSERT INTO saga.migration VALUES ('a', 'b', 'c')",
                "DELETE FROM saga.parked",
                "SELECT nextval('saga.outbox_seq')",
                "SELECT rolname FROM pg_authid",
                "SELECT pg_read_file('/etc/passwd')",
                "SELECT pg_ls_dir('/')",
                "SELECT table_to_xml('saga.lane', true, true, '')::text",
            ],
        )
        .await;
    house.refused("42883", &["SELECT dblink('host=/tmp')"]).await;
    house.refused("0A000", &["SELECT * FROM postgres.public.anything"]).await;
    let foreign = "SELECT count(*) FROM pg_stat_activity
                    WHERE usename <> current_user AND query NOT IN ('', '<insufficient privilege>')";
    assert_eq!(house.integer(foreign).await, 0);
}

#[tokio::test]
async fn the_functions_of_a_unit_serve_only_its_own_lane() {
    let mut house = House::new("lane").await;
    let [ours, theirs] = house.leases.clone();
    house.refused("SG100", &[&open(&theirs, 0), &open(&ours, 1), &open(&ours, 0)]).await;
    house.refused(DENIED, &["SELECT saga.roll_partitions(1, 0, 0)::text"]).await;
    let flush = |slot: i32| {
        let nothing = ["NULL"; 11].join(", ");
        format!("SELECT saga.flush({slot}, 'guess', 0, {nothing})")
    };
    house.refused("SG103", &[&flush(ours.slot), &flush(theirs.slot)]).await;
}

#[tokio::test]
async fn what_a_later_migration_creates_can_be_used() {
    let mut house = House::new("later").await;
    let mut migrations = migrations("ours");
    let sql = "CREATE TABLE later (id serial PRIMARY KEY, note text)".to_owned();
    migrations.push(Migration { name: "0002_later.sql".into(), sql });
    house
        .server
        .provision(&house.database, &house.roles[0], &alone(&migrations), MigrationsMode::Apply)
        .await
        .unwrap();
    assert_eq!(house.integer("INSERT INTO later (note) VALUES ('a') RETURNING id").await, 1);
    assert_eq!(house.integer("INSERT INTO ours (qty) VALUES (1) RETURNING id").await, 1);
    house.refused(DENIED, &["SELECT setval('later_id_seq', 9)"]).await;
}

/// The migrations of a version next to which no other runs.
fn alone(all: &[Migration]) -> Migrations<'_> {
    Migrations { all, pinning_version: None }
}

#[tokio::test]
async fn a_migration_that_removes_is_refused_while_sagas_of_an_earlier_version_are_in_flight() {
    let house = House::new("contract").await;
    let migration = |name: &str, sql: &str| Migration { name: name.into(), sql: sql.into() };
    let mut all = migrations("ours");
    all.push(migration("0002_wider.sql", "ALTER TABLE ours ADD COLUMN note text"));
    let begin = "INSERT INTO saga.saga_live
                     (type, key, plugin, digest, revision, state, data, started_at, next_at, log)
                 VALUES ('order', 'k', 'ours', 'first', 1, 's', '{}', now(), now(), '')";
    sqlx::query(begin).execute(&house.database.admin).await.unwrap();
    let provision = async |all: &[Migration]| {
        let migrations = Migrations { all, pinning_version: Some("second") };
        house.server.provision(&house.database, &house.roles[0], &migrations, MigrationsMode::Apply).await
    };
    provision(&all).await.unwrap();
    all.push(migration("0003_narrower.sql", "ALTER TABLE ours DROP COLUMN note"));
    let refusal = provision(&all).await.unwrap_err().to_string();
    assert!(refusal.contains("(ALTER TABLE ours DROP COLUMN note), and 1 sagas in flight"), "{refusal}");
    sqlx::query("DELETE FROM saga.saga_live").execute(&house.database.admin).await.unwrap();
    provision(&all).await.unwrap();
}

#[tokio::test]
async fn a_role_with_too_many_rights_is_refused() {
    let house = House::new("strong").await;
    let strong = PluginRole { plugin: "strong".into(), name: "postgres".into() };
    let refusal = house.server.provision(&house.database, &strong, &alone(&[]), MigrationsMode::Apply).await;
    assert!(matches!(refusal, Err(ProvisionError::RoleTooStrong(name)) if name == "postgres"));
}
