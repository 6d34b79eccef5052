//! Passwords, roles and accounts that change while hosts run, and between two starts.

use saga_host::{
    config::MigrationsMode::{Apply, Check},
    model::policy::Policy,
    store::{Database, LoginError, Migrations, PluginRole, ProvisionError, Server},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgDatabaseError};

use crate::support::{
    administrator::Administrator,
    flow::{self, ORDERS, Products},
    folder, host,
    stack::Own,
};

const NO_MIGRATIONS: Migrations<'_> = Migrations { all: &[], pinning_version: None };

fn role() -> PluginRole {
    PluginRole { plugin: "ours".into(), name: "plugin_ours".into() }
}

async fn connect(database: &Database) -> Result<PgConnection, LoginError> {
    let policy = Policy::parse("ours", "name = 'ours'\n[database]\nname = 'any'").unwrap();
    database.connect_plugin(&role(), &policy).await
}

/// Logs in as the plugin, and calls a function of a unit. Returns the limit on temporary files.
async fn log_in(database: &Database) -> String {
    let mut session = connect(database).await.unwrap_or_else(|error| panic!("{error}"));
    let answers = "SELECT count(*) FROM saga.stored_answers(1, '{}')";
    sqlx::query(answers).execute(&mut session).await.unwrap();
    let limit = sqlx::query_scalar("SHOW temp_file_limit").fetch_one(&mut session).await.unwrap();
    session.close().await.unwrap();
    assert_eq!(database.login_trouble(&role()), None);
    limit
}

/// The name of a new database, which is dropped at the end.
async fn fresh(administrator: &Administrator, name: &str) -> String {
    administrator.run("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    name.to_owned()
}

#[tokio::test]
async fn a_role_that_cannot_work_any_more_is_set_right_by_the_next_connection_of_any_host() {
    let stack = Own::start().await;
    let administrator = Administrator::asking_for_passwords(&stack.target.postgres).await;
    let name = fresh(&administrator, "credentials_role").await;
    // Two hosts, whose accounts differ.
    let [first, second] = ["postgres", "postgres:other"].map(|account| {
        let url = stack.target.postgres.replace("postgres@", &format!("{account}@"));
        Server::new(&url).unwrap()
    });
    let databases = [first.database(&name), second.database(&name)];
    first.provision(&databases[0], &role(), &NO_MIGRATIONS, Apply).await.unwrap();
    second.provision(&databases[1], &role(), &NO_MIGRATIONS, Check).await.unwrap();
    databases[0].limit_role(&role(), 77, Apply).await.unwrap();
    databases[1].limit_role(&role(), 77, Check).await.unwrap();
    for change in [
        "SELECT 1",
        "ALTER ROLE plugin_ours PASSWORD 'another'",
        "ALTER ROLE plugin_ours NOLOGIN",
        "ALTER ROLE plugin_ours VALID UNTIL '2000-01-01'",
        "REVOKE CONNECT ON DATABASE credentials_role FROM PUBLIC, plugin_ours",
        "REVOKE USAGE ON SCHEMA saga FROM plugin_ours",
        "DROP OWNED BY plugin_ours; DROP ROLE plugin_ours",
        "DELETE FROM saga.role_password; ALTER ROLE plugin_ours PASSWORD 'another'",
    ] {
        for order in [[0, 1], [1, 0]] {
            administrator.run(&name, change).await;
            for host in order {
                assert_eq!(log_in(&databases[host]).await, "77MB", "{change}");
            }
        }
    }
    // A start sets it right, too.
    administrator.run(&name, "ALTER ROLE plugin_ours NOLOGIN PASSWORD 'another'").await;
    second.provision(&databases[1], &role(), &NO_MIGRATIONS, Check).await.unwrap();
    log_in(&databases[0]).await;
    administrator.run("postgres", "DROP DATABASE credentials_role WITH (FORCE)").await;
}

/// A role that an earlier version of the host has created has a password derived from that of the account.
#[tokio::test]
async fn a_role_keeps_the_password_of_an_earlier_version() {
    use hmac::{Hmac, KeyInit, Mac};
    let stack = Own::start().await;
    let administrator = Administrator::asking_for_passwords(&stack.target.postgres).await;
    let name = fresh(&administrator, "credentials_earlier").await;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(b"saga-host role plugin_ours");
    let derived = hex::encode(mac.finalize().into_bytes());
    administrator.run("postgres", &format!("CREATE ROLE plugin_ours LOGIN PASSWORD '{derived}'")).await;
    let url = stack.target.postgres.replace("postgres@", "postgres:secret@");
    let server = Server::new(&url).unwrap();
    let database = server.database(&name);
    server.provision(&database, &role(), &NO_MIGRATIONS, Apply).await.unwrap();
    let stored: String =
        sqlx::query_scalar("SELECT password FROM saga.role_password WHERE role = 'plugin_ours'")
            .fetch_one(&database.admin)
            .await
            .unwrap();
    assert_eq!(stored, derived);
    log_in(&database).await;
    administrator.run("postgres", "DROP DATABASE credentials_earlier WITH (FORCE)").await;
}

#[tokio::test]
async fn the_password_of_the_account_changes_while_the_host_runs() {
    let stack = Own::start().await;
    let administrator = Administrator::asking_for_passwords(&stack.target.postgres).await;
    let password = folder::new("password").join("file");
    administrator.run("postgres", "DROP ROLE IF EXISTS saga_rotates").await;
    let change = async |to: &str| {
        std::fs::write(&password, format!("{to}\n")).unwrap();
        let sql = format!("ALTER ROLE saga_rotates PASSWORD '{to}'");
        administrator.run("postgres", &sql).await;
    };
    administrator.run("postgres", "CREATE ROLE saga_rotates LOGIN SUPERUSER").await;
    change("first").await;
    let mut target = stack.target.clone();
    target.postgres = administrator.url_of("saga_rotates", None);
    let file = [("SAGA_HOST_POSTGRES_PASSWORD_FILE", password.to_str().unwrap())];
    let host = host::run_with(&target, &folder::plugins(&[]), &file).await;
    let products = Products::new(&target).await;
    flow::all_accepted(products.place_some(&target, 0..ORDERS / 2)).await;
    change("second").await;
    for (plugin, secret) in [("inventory_command", "x"), ("order_orchestrator", "y")] {
        administrator.run("postgres", &format!("ALTER ROLE plugin_{plugin} PASSWORD '{secret}'")).await;
    }
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE usename = 'saga_rotates' OR usename LIKE 'plugin\\_%'";
    administrator.run("postgres", end_sessions).await;
    flow::all_accepted(products.place_some(&target, ORDERS / 2..ORDERS)).await;
    flow::ends_as_expected(&stack.target).await;
    host.stop().await;
    // Its schemas are there, so it cannot be dropped; the next test does not need it.
    administrator.run("postgres", "ALTER ROLE saga_rotates NOLOGIN").await;
}

#[tokio::test]
async fn another_account_takes_over_with_the_sql_that_is_printed() {
    let stack = Own::start().await;
    let administrator = Administrator::asking_for_passwords(&stack.target.postgres).await;
    let name = fresh(&administrator, "credentials_account").await;
    let old = Server::new(&stack.target.postgres).unwrap();
    old.provision(&old.database(&name), &role(), &NO_MIGRATIONS, Apply).await.unwrap();
    administrator.run("postgres", "DROP ROLE IF EXISTS saga_next").await;
    administrator.run("postgres", "CREATE ROLE saga_next LOGIN PASSWORD 'secret'").await;
    let next = Server::new(&administrator.url_of("saga_next", Some("secret"))).unwrap();
    let database = next.database(&name);
    let mut findings = Vec::new();
    for mode in [Check, Apply, Apply] {
        if let Err(error) = next.provision(&database, &role(), &NO_MIGRATIONS, mode).await {
            findings.push(error.to_string());
            administrator.follow(&error.to_string()).await;
        }
    }
    assert!(findings[0].contains("schema saga or a part of it belongs to postgres"), "{findings:?}");
    for mode in [Apply, Check] {
        next.provision(&database, &role(), &NO_MIGRATIONS, mode)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
    log_in(&database).await;
    // What the leader and the relay need.
    for statement in [
        "SELECT saga.roll_partitions(9, 30, 2)",
        "SELECT pg_notify('a', 'b')",
        "SELECT * FROM saga.agree_topics('{a}', '{NULL}', '{3}')",
        "SELECT set_config('lock_timeout', '1s', true)",
        "UPDATE saga.relay_stall SET stalled_at = now()",
        "DELETE FROM saga.topic_reader",
        "SELECT FROM saga.confirm_identity()",
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&database.admin).await.unwrap();
    }
    // It may not set the role's password. Every attempt leaves the SQL to run, and no password in the log.
    administrator.run(&name, "ALTER ROLE plugin_ours PASSWORD 'another'").await;
    for _ in 0..2 {
        connect(&database).await.expect_err("the password is wrong");
        let trouble = database.login_trouble(&role()).unwrap();
        assert!(trouble.contains("ALTER ROLE %I LOGIN"), "{trouble}");
    }
    let refusal = next.provision(&database, &role(), &NO_MIGRATIONS, Check).await.unwrap_err();
    let ProvisionError::NotPrepared { statements, .. } = &refusal else { panic!("{refusal}") };
    let denied =
        sqlx::raw_sql(AssertSqlSafe(statements[0].clone())).execute(&database.admin).await.unwrap_err();
    let denied = denied.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
    assert_eq!(denied.code(), "42501");
    assert!(!denied.r#where().unwrap_or_default().contains("PASSWORD '"), "{denied:?}");
    administrator.follow(&refusal.to_string()).await;
    log_in(&database).await;
    administrator.run("postgres", "DROP DATABASE credentials_account WITH (FORCE)").await;
    administrator.run("postgres", "DROP ROLE saga_next").await;
}
