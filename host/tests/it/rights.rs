//! Under which rights the parts of a plugin run: its migrations change its own tables and nothing else, what
//! a guest could misuse is refused, and an account without superuser rights runs on the SQL that the host
//! prints.

use anyhow::{Context, ensure};
use saga_host::{
    config::MigrationsMode::{self, Apply, Check},
    model::migration::Migration,
    store::{Database, Migrations, PluginRole, ProvisionError, Server},
};
use saga_testkit::{
    caller::Request,
    target::Target,
    topic::writer::{Draft, Writer},
};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::{
    self,
    administrator::Administrator,
    eventually,
    flow::{self, ORDERS, Products},
    folder,
    guest::{self, DONE, PLUGIN, TOPIC},
    host::{self, PLUGINS, get},
    stack::Own,
};

/// A provisioned database with one plugin, `ours`.
struct House {
    server: Server,
    database: Database,
    role: PluginRole,
}

impl House {
    async fn new(tag: &str) -> Self {
        let server = Server::new(&support::postgres_url()).unwrap();
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let database = server.database(&format!("rights_{tag}_{mark}"));
        let role = PluginRole { plugin: "ours".into(), name: format!("plugin_rights_{}", &mark[..8]) };
        let house = Self { server, database, role };
        house.provision(&[], Apply).await.unwrap();
        house
    }

    /// Provisions with a first migration that is fine, and these.
    async fn provision(&self, more: &[(&str, &str)], mode: MigrationsMode) -> Result<(), ProvisionError> {
        let first = ("0001_tables.sql", "CREATE TABLE ours (id serial PRIMARY KEY, qty int)");
        let migration = |(name, sql): (&str, &str)| Migration { name: name.into(), sql: sql.into() };
        let all: Vec<Migration> = [first].into_iter().chain(more.iter().copied()).map(migration).collect();
        let migrations = Migrations { all: &all, pinning_version: None };
        self.server.provision(&self.database, &self.role, &migrations, mode).await
    }

    /// Runs SQL as the account of the host, a superuser.
    async fn run(&self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.database.admin).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn text(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(&self.database.admin).await.unwrap()
    }

    /// Whether a condition holds for the plugin's role, `$1`.
    async fn holds(&self, condition: &str) -> bool {
        let asked = AssertSqlSafe(format!("SELECT {condition}"));
        sqlx::query_scalar(asked).bind(&self.role.name).fetch_one(&self.database.admin).await.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let statements = [
            format!("DROP DATABASE {} WITH (FORCE)", self.database.name),
            format!("DROP ROLE {}", self.role.name),
            format!("DROP ROLE \"{}\"", self.database.owner_role()),
        ];
        support::clean_up(async {
            let mut admin = support::postgres().await;
            for statement in statements {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn a_migration_can_change_its_own_tables_and_nothing_else() {
    let house = House::new("migration").await;
    let owner = house.database.owner_role();
    for sql in [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY ours TO '/tmp/ours'",
        "RESET ROLE; SET SESSION AUTHORIZATION DEFAULT; COPY (SELECT 1) TO PROGRAM 'true'",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE TABLE seen AS SELECT rolname, rolpassword FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        "GRANT pg_execute_server_program TO CURRENT_USER",
        "CREATE ROLE another",
        "ALTER ROLE postgres PASSWORD 'known'",
        "CREATE TABLE seen AS SELECT * FROM saga.role_password",
        "INSERT INTO saga.migration VALUES ('a', 'b', 'c')",
        "SELECT saga.record_migration('host', 'a', 'b')",
        "DELETE FROM saga.lane",
        "DROP TABLE saga.outbox",
        "ALTER FUNCTION saga.roll_partitions OWNER TO CURRENT_USER",
        "CREATE TABLE saga.mine (id int)",
        "CREATE TRIGGER a BEFORE UPDATE ON saga.outbox EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE FUNCTION f() RETURNS void LANGUAGE c AS 'libc', 'exit'",
    ] {
        let refusal = house.provision(&[("0002_more.sql", sql)], Apply).await.expect_err(sql).to_string();
        assert!(refusal.starts_with("migration 0002_more.sql of ours is refused: "), "{sql}: {refusal}");
        assert!(refusal.contains(&owner), "{sql}: {refusal}");
    }
    let fine = [
        ("0002_more.sql", "ALTER TABLE ours ADD COLUMN note text; CREATE TYPE mood AS ENUM ('good')"),
        (
            "0003_extension.sql",
            "CREATE EXTENSION pg_trgm; CREATE SCHEMA more; CREATE TABLE more.item (id serial PRIMARY KEY)",
        ),
    ];
    let usable =
        "has_schema_privilege($1, 'more', 'USAGE') AND NOT has_schema_privilege($1, 'more', 'CREATE')
                  AND has_table_privilege($1, 'more.item', 'SELECT')
                  AND has_table_privilege($1, 'more.item', 'DELETE')
                  AND has_sequence_privilege($1, 'more.item_id_seq', 'USAGE')";
    for mode in [Apply, Apply, Check] {
        house.provision(&fine, mode).await.unwrap();
        assert!(house.holds(usable).await, "a schema of the plugins' own");
    }
    // The host that checks gives the plugin's role what it needs, too.
    house
        .run(&format!(
            "REVOKE ALL ON SCHEMA more FROM {0}; REVOKE ALL ON more.item FROM {0}",
            house.role.name
        ))
        .await;
    house.provision(&fine, Check).await.unwrap();
    assert!(house.holds(usable).await);
    assert_eq!(
        house
            .text(
                "SELECT string_agg(name, ' ' ORDER BY name) FROM saga.migration
                            WHERE owner = 'ours'"
            )
            .await,
        "0001_tables.sql 0002_more.sql 0003_extension.sql"
    );
}

/// An earlier version of the host has run the migrations under its own account.
#[tokio::test]
async fn tables_of_the_hosts_account_become_those_of_the_owner() {
    let house = House::new("owner").await;
    house
        .run(
            "CREATE TYPE public.mood AS ENUM ('good');
             CREATE TABLE public.old (
                 id serial PRIMARY KEY, mood public.mood, n int GENERATED ALWAYS AS IDENTITY);
             CREATE VIEW public.seen AS SELECT id FROM public.old;
             CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
             CREATE SEQUENCE public.number",
        )
        .await;
    let change = "ALTER TABLE old ADD COLUMN note text; ALTER TYPE mood RENAME TO feeling; DROP VIEW seen;
                  ALTER SEQUENCE number INCREMENT 2;
                  CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $1'";
    house.provision(&[("0002_change.sql", change)], Apply).await.unwrap();
    let of_others = "SELECT coalesce(string_agg(relname, ' '), 'none') FROM pg_class
                      WHERE relnamespace = 'public'::regnamespace
                        AND pg_get_userbyid(relowner) NOT LIKE 'saga\\_owner\\_%'";
    assert_eq!(house.text(of_others).await, "none");
    assert!(house.holds("has_table_privilege($1, 'public.old', 'UPDATE')").await);
}

/// A copy, a dump that is restored under another name, and a rename leave the tables to the earlier role.
#[tokio::test]
async fn tables_of_another_owner_become_those_of_this_one_or_the_sql_is_printed() {
    let house = House::new("copy").await;
    let mark = house.role.name.trim_start_matches("plugin_rights_");
    let (copied, stranger) = (format!("saga_owner_copied_{mark}"), format!("stranger_{mark}"));
    house
        .run(&format!(
            "CREATE ROLE {copied}; CREATE ROLE {stranger};
             CREATE SCHEMA app AUTHORIZATION {copied};
             CREATE TABLE app.item (id int); ALTER TABLE app.item OWNER TO {copied};
             ALTER TABLE public.ours OWNER TO {copied};
             CREATE TYPE public.mood AS ENUM ('good'); ALTER TYPE public.mood OWNER TO {stranger};
             CREATE TABLE public.known (id int); ALTER TABLE public.known OWNER TO {stranger}"
        ))
        .await;
    let first = ("0002_copied.sql", "ALTER TABLE ours ADD a int; ALTER TABLE app.item ADD a int");
    house.provision(&[first], Apply).await.unwrap();
    assert!(house.holds("has_table_privilege($1, 'app.item', 'UPDATE')").await);
    let second = ("0003_known.sql", "ALTER TYPE mood RENAME TO feeling; ALTER TABLE known ADD a int");
    let refusal = house.provision(&[first, second], Apply).await.expect_err("of another").to_string();
    let (says, sql) = refusal.split_once(&format!("run in database {}: ", house.database.name)).unwrap();
    assert!(says.contains("must be owner of type mood") && says.contains(&stranger), "{refusal}");
    house.run(sql).await;
    house.provision(&[first, second], Apply).await.unwrap();
    house.run(&format!("DROP ROLE {copied}; DROP ROLE {stranger}")).await;
}

/// What `pg_dump` holds while it runs.
#[tokio::test]
async fn while_a_dump_runs_a_plugin_starts_and_a_migration_of_what_it_reads_is_postponed() {
    let house = House::new("dump").await;
    // As an earlier version of the host has left it.
    house
        .run(
            "ALTER TABLE saga.lane DROP COLUMN reads_format, DROP COLUMN reads_owner;
             DELETE FROM saga.migration WHERE name = '0006_stored_formats.sql';
             CREATE TABLE public.old (id int)",
        )
        .await;
    let postponed = async |more: &[(&str, &str)], of: &str| {
        let error = house.provision(more, Apply).await.expect_err("a table is in use");
        let postponed = matches!(&error, ProvisionError::MigrationPostponed { owner, .. } if owner == of);
        assert!(postponed && error.to_string().contains("e.g. of a dump"), "{error}");
    };
    let mut dump = house.database.admin.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE saga.lane IN ACCESS SHARE MODE").execute(&mut *dump).await.unwrap();
    postponed(&[], "host").await;
    dump.rollback().await.unwrap();

    let mut dump = house.database.admin.begin().await.unwrap();
    let read = "LOCK TABLE public.ours, public.old IN ACCESS SHARE MODE";
    sqlx::raw_sql(read).execute(&mut *dump).await.unwrap();
    house.provision(&[], Apply).await.unwrap();
    let change =
        [("0002_old.sql", "ALTER TABLE old ADD a int"), ("0003_ours.sql", "ALTER TABLE ours ADD a int")];
    postponed(&change[..1], "ours").await;
    postponed(&change[1..], "ours").await;
    let another = ("0001_another.sql", "CREATE TABLE another (id int)");
    house.provision(&[another], Apply).await.unwrap();
    dump.rollback().await.unwrap();
    house.provision(&change, Apply).await.unwrap();
}

#[tokio::test]
async fn what_a_guest_could_misuse_is_refused_with_the_sql_that_ends_it() {
    let house = House::new("unsafe").await;
    let (role, database) = (&house.role.name, &house.database.name);
    for (harm, says) in [
        ("GRANT CREATE ON SCHEMA public TO PUBLIC".to_owned(), "PUBLIC may create tables in schema public"),
        (format!("GRANT CREATE ON SCHEMA saga TO {role}"), "may create tables in schema saga"),
        (format!("GRANT TEMPORARY ON DATABASE {database} TO PUBLIC"), "PUBLIC may create temporary tables"),
        (format!("GRANT TEMPORARY ON DATABASE {database} TO {role}"), "may create temporary tables"),
        (format!("GRANT pg_read_all_data TO {role}"), "is a member of role pg_read_all_data"),
        (format!("GRANT SELECT ON saga.lane TO {role}"), "may use tables of schema saga"),
        (format!("GRANT USAGE ON SEQUENCE saga.outbox_seq TO {role}"), "may use sequences of schema saga"),
        (
            "GRANT EXECUTE ON FUNCTION saga.roll_partitions TO PUBLIC".to_owned(),
            "may call functions of the host",
        ),
        (
            "GRANT EXECUTE ON FUNCTION set_config TO PUBLIC".to_owned(),
            "plugins could call 1 session functions",
        ),
        (format!("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {role}"), "may call pg_read_file"),
    ] {
        house.run(&harm).await;
        let error = house.provision(&[], Check).await.expect_err(&harm);
        let refusal = error.to_string();
        assert!(refusal.contains(says) && refusal.contains(database), "{harm}: {refusal}");
        let ProvisionError::NotPrepared { statements, .. } = error else { panic!("{harm}: {refusal}") };
        let in_development = house.server.clone().for_development(true);
        let migrations = Migrations { all: &[], pinning_version: None };
        in_development.provision(&house.database, &house.role, &migrations, Check).await.unwrap();
        house.run(&statements.join("; ")).await;
        house.provision(&[], Check).await.unwrap_or_else(|error| panic!("{harm}: {error}"));
    }
    // What the next build's migration has added belongs to the role.
    house
        .run(
            "CREATE FUNCTION saga.of_the_next_build() RETURNS int LANGUAGE sql AS 'SELECT 1';
             REVOKE ALL ON FUNCTION saga.of_the_next_build FROM PUBLIC;
             INSERT INTO saga.unit_function VALUES ('of_the_next_build')",
        )
        .await;
    for mode in [Check, Apply] {
        house.provision(&[], mode).await.unwrap();
        let callable = "has_function_privilege($1, 'saga.of_the_next_build()', 'EXECUTE')";
        assert!(house.holds(callable).await, "{mode:?}");
    }
    let owner = house.database.owner_role();
    house.run(&format!("ALTER ROLE \"{owner}\" CREATEDB")).await;
    let refusal = house.provision(&[], Apply).await.expect_err("too strong").to_string();
    assert!(refusal.contains(&owner) && !refusal.contains("[database] role"), "{refusal}");
    house.run(refusal.split_once("run: ").unwrap().1).await;
    // Where it may change the schema, the host takes away itself what PUBLIC has.
    house.run("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    house.provision(&[], Apply).await.unwrap();
    house.provision(&[], Check).await.unwrap();
}

/// The reasons why plugins are rejected.
async fn rejections(target: &Target) -> anyhow::Result<Vec<String>> {
    let shown = get(target, "/v1/plugins").await?;
    let plugins = shown["plugins"].as_array().context("no plugins")?;
    let versions = plugins.iter().flat_map(|plugin| plugin["versions"].as_array().into_iter().flatten());
    let rejected = versions.filter(|version| version["state"] == "rejected");
    Ok(rejected.filter_map(|version| version["reason"].as_str().map(str::to_owned)).collect())
}

/// Starts a host again and again, and runs what it prints, until every plugin runs. Gives the host and how
/// often it was started.
async fn prepared(
    administrator: &Administrator,
    target: &Target,
    plugins: &std::path::Path,
) -> (host::Host, usize) {
    for starts in 1..=4 {
        let host = host::spawn(target, plugins);
        let rejected = eventually(async || {
            let rejected = rejections(target).await?;
            let shown = get(target, "/v1/plugins").await?;
            let known = shown["plugins"].as_array().map_or(0, Vec::len);
            ensure!(known > PLUGINS.len(), "{known} plugins have started or were rejected: {shown}");
            Ok(rejected)
        })
        .await;
        if rejected.is_empty() {
            return (host, starts);
        }
        // It may still be starting, and then does not end with exit code 0.
        host.kill().await;
        for message in rejected {
            administrator.follow(&message).await;
        }
    }
    panic!("not prepared after four starts");
}

#[tokio::test]
async fn an_account_without_superuser_rights_runs_on_the_sql_that_is_printed() {
    let (stack, plugins) = (Own::start().await, folder::plugins(&[]));
    guest::add(&plugins);
    let administrator = Administrator::asking_for_passwords(&stack.target.postgres).await;
    let account = "saga plain";
    administrator.run("postgres", &format!("DROP ROLE IF EXISTS \"{account}\"")).await;
    administrator.run("postgres", &format!("CREATE ROLE \"{account}\" LOGIN PASSWORD 'first'")).await;
    let postgres = administrator.url_of("saga%20plain", Some("first"));
    let target = Target { postgres: postgres.clone(), ..stack.target.clone() };
    let (host, starts) = prepared(&administrator, &target, &plugins).await;
    assert_eq!(starts, 3, "databases, then roles and rights, then it runs");

    let products = Products::new(&target).await;
    flow::all_accepted(products.place_some(&target, 0..ORDERS / 2)).await;
    let fine = Request::post("/misbehave/fine", "{}").header("Idempotency-Key", "one");
    fine.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    let writer = Writer::new(&target.kafka).unwrap();
    let draft = Draft { key: Some("k".to_owned()), ..Draft::text("bad-sql") };
    writer.write(TOPIC, &draft).await.unwrap();
    let parked = eventually(async || {
        let shown = get(&target, &format!("/v1/parked?plugin={PLUGIN}")).await?;
        let id = shown["parked"][0]["id"].clone();
        ensure!(id != Value::Null, "nothing is parked: {shown}");
        Ok(id.as_str().map_or_else(|| id.to_string(), str::to_owned))
    })
    .await;
    host.stop().await;

    let host = host::run(&target, &plugins).await;
    flow::all_accepted(products.place_some(&target, ORDERS / 2..ORDERS)).await;
    let table =
        "CREATE TABLE public.nowhere (nothing text); GRANT SELECT ON public.nowhere TO plugin_misbehaving";
    administrator.run(PLUGIN, table).await;
    host::cli(&target, &["redrive", &parked]);
    eventually(async || {
        let done = flow::records(&stack.target, DONE).await;
        ensure!(done == 2, "{done} messages of the request and of the redriven delivery");
        Ok(())
    })
    .await;
    flow::ends_as_expected(&stack.target).await;
    // No record was sent more than once: the relay could delete what it had sent.
    assert_eq!(flow::records(&stack.target, "order-created-topic").await, ORDERS as u64);

    let server = Server::new(&postgres).unwrap();
    let role = PluginRole { plugin: "order-query".into(), name: "plugin_order_query".into() };
    let migration =
        Migration { name: "0009_note.sql".into(), sql: "ALTER TABLE order_view ADD note text".into() };
    let migrations = Migrations { all: &[migration], pinning_version: None };
    server.provision(&server.database("query-order"), &role, &migrations, Apply).await.unwrap();
    host.stop().await;
}
