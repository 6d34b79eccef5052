//! Whose fault it is that a unit fails. What fails for a reason of the environment is retried, shown in
//! `readyz` and blamed on nobody; what looks like one, but comes from a guest or from a locked row, delays its
//! own key only.

use std::path::PathBuf;

use anyhow::ensure;
use saga_testkit::{
    caller::Request,
    target::Target,
    topic::writer::{Draft, Writer},
};
use serde_json::Value;

use crate::support::{
    database::Database,
    eventually, flow, folder,
    guest::{self, DONE, PLUGIN, TOPIC},
    host::{self, Host},
    stack::Own,
};

const ROLE: &str = "plugin_misbehaving";
const MOVES_OF_7: &str = "SELECT moves::bigint FROM public.account WHERE id = 7";
const MOVES_OF_6: &str = "SELECT moves::bigint FROM public.account WHERE id = 6";

/// A host with the plugin that misbehaves, a producer, and a connection to the plugin's database.
struct House {
    _host: Host,
    plugins: PathBuf,
    writer: Writer,
    database: Database,
    stack: Own,
}

impl House {
    async fn new() -> Self {
        let (stack, plugins) = (Own::start().await, folder::new("plugins"));
        guest::add(&plugins);
        let host = host::run(&stack.target, &plugins).await;
        let writer = Writer::new(&stack.target.kafka).unwrap();
        let database = Database::connect(&stack.target, PLUGIN).await;
        Self { _host: host, plugins, writer, database, stack }
    }

    fn target(&self) -> &Target {
        &self.stack.target
    }

    /// Writes a record; all of them go to one partition.
    async fn write(&self, key: &str, how: &str) {
        let draft = Draft { key: Some(key.to_owned()), partition: Some(0), ..Draft::text(how) };
        self.writer.write(TOPIC, &draft).await.unwrap();
    }

    async fn write_eight(&self) {
        for number in 0..8 {
            self.write(&number.to_string(), "fine").await;
        }
    }

    async fn request(&self, how: &str) -> u16 {
        let request = Request::post(format!("/misbehave/{how}"), "{}");
        request.send(self.target().http().unwrap()).await.unwrap().status
    }

    async fn parked(&self) -> anyhow::Result<Vec<Value>> {
        host::parked(self.target(), PLUGIN).await
    }

    /// Waits until so many messages of the plugin were published.
    async fn done(&self, expected: u64) {
        eventually(async || {
            let done = flow::records(self.target(), DONE).await;
            ensure!(done == expected, "{done} messages instead of {expected}");
            Ok(())
        })
        .await;
    }

    async fn ready(&self) {
        host::ready(self.target()).await;
    }

    /// Waits until `readyz` says that the plugin is paused, and why.
    async fn paused(&self, what: &str, why: &str) {
        eventually(async || {
            let answer = Request::get("/readyz").send(self.target().admin()?).await?.expect(503)?.text();
            let says = [PLUGIN, what, "paused, retrying", why].iter().all(|text| answer.contains(text));
            ensure!(says, "{answer}");
            Ok(())
        })
        .await;
    }
}

fn states(parked: &[Value], key: &str) -> Vec<String> {
    let of_key = parked.iter().rev().filter(|entry| entry["key"] == key);
    of_key.map(|entry| entry["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_guest_that_raises_what_looks_like_an_outage_delays_its_key_only() {
    let house = House::new().await;
    let raised = ["40001", "40P01", "08P01", "57P01", "58030", "25006", "53400"];
    for sqlstate in raised {
        house.write(sqlstate, &format!("raise-{sqlstate}")).await;
        house.write(sqlstate, "fine").await;
        house.write("fine", "fine").await;
    }
    house.done(raised.len() as u64).await;
    let parked = eventually(async || {
        let parked = house.parked().await?;
        ensure!(parked.len() == 2 * raised.len(), "{parked:?}");
        Ok(parked)
    })
    .await;
    for sqlstate in raised {
        // Only the limit on temporary files is certainly the guest's; its policy allows one attempt.
        let first = if sqlstate == "53400" { "dead_letter" } else { "retrying" };
        assert_eq!(states(&parked, sqlstate), [first, "queued"], "{sqlstate}");
        let reasons: Vec<&str> = parked.iter().filter_map(|entry| entry["reason"].as_str()).collect();
        assert!(reasons.iter().any(|reason| reason.contains("raised by the guest")), "{reasons:?}");
    }
    assert_eq!(house.request("raise-40001").await, 503);
    assert_eq!(house.request("raise-53400").await, 500);
    assert_eq!(house.request("fine").await, 201);
    house.ready().await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_delays_its_key_only() {
    let mut house = House::new().await;
    let mut person = Database::connect(house.target(), PLUGIN).await;
    person.run("BEGIN; UPDATE public.account SET moves = moves WHERE id = 6").await;
    for number in 0..4 {
        house.write(&format!("six-{number}"), "move-6").await;
        house.write("seven", "move-7").await;
    }
    house.database.reaches(MOVES_OF_7, 4).await;
    let parked = eventually(async || {
        let parked = house.parked().await?;
        ensure!(parked.len() == 4, "{parked:?}");
        Ok(parked)
    })
    .await;
    for number in 0..4 {
        assert_eq!(states(&parked, &format!("six-{number}")), ["retrying"]);
    }
    assert_eq!(house.request("move-6").await, 503);
    assert_eq!(house.request("move-7").await, 201);
    house.ready().await;

    person.run("ROLLBACK").await;
    house.database.reaches(MOVES_OF_6, 4).await;
    eventually(async || {
        let parked = house.parked().await?;
        ensure!(parked.is_empty(), "{parked:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn deadlines_that_somebody_has_locked_hold_up_no_others() {
    let mut house = House::new().await;
    let digest = host::active(house.target(), PLUGIN).await.unwrap();
    // More locked ones than one poll reads, all due before the other one, and locked before they are due.
    let begin = format!(
        "INSERT INTO saga.saga_live
                (type, key, plugin, digest, revision, state, data, started_at, next_at, log)
         SELECT 'trip', 'locked-' || n, '{PLUGIN}', '{digest}', 1, 's', '{{}}', now(),
                now() + interval '3 s', ''
           FROM generate_series(1, 1000) n
          UNION ALL
         SELECT 'trip', 'free', '{PLUGIN}', '{digest}', 1, 's', '{{}}', now(), now() + interval '4 s', ''"
    );
    house.database.run(&begin).await;
    let mut person = Database::connect(house.target(), PLUGIN).await;
    person.run("BEGIN; SELECT FROM saga.saga_live WHERE key <> 'free' FOR UPDATE").await;
    let overdue = "SELECT count(*) FROM saga.saga_live WHERE overdue";
    house.database.reaches(overdue, 1).await;
    assert!(house.parked().await.unwrap().is_empty());
    person.run("ROLLBACK").await;
    house.database.reaches(overdue, 1_001).await;
}

/// The version is new, so a failure that it is blamed for would roll it back.
#[tokio::test]
async fn a_failing_statement_of_the_host_is_nobodys_fault() {
    let mut house = House::new().await;
    let before = host::active(house.target(), PLUGIN).await.unwrap();
    guest::turn(&house.plugins, "next");
    let version = eventually(async || {
        let active = host::active(house.target(), PLUGIN).await?;
        ensure!(active != before, "the new version is not active");
        Ok(active)
    })
    .await;
    // The host gives the right back by itself.
    house.database.run(&format!("REVOKE EXECUTE ON FUNCTION saga.flush FROM {ROLE}")).await;
    house.write_eight().await;
    house.done(8).await;
    assert!(house.parked().await.unwrap().is_empty());
    // As a build of another release leaves it. Sessions that know the function keep it.
    let sessions = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    let renames = "ALTER FUNCTION saga.flush RENAME TO flush_of_another_release";
    house.database.run(&format!("{renames}; {sessions}")).await;
    house.write_eight().await;
    house.paused("deliveries", "42883").await;
    assert!(house.parked().await.unwrap().is_empty());
    house.database.run("ALTER FUNCTION saga.flush_of_another_release RENAME TO flush").await;
    house.done(16).await;
    house.ready().await;
    // The partitions of the days of stored answers.
    house
        .database
        .run(
            "DO $$ DECLARE v_partition regclass; BEGIN
                 FOR v_partition IN SELECT inhrelid FROM pg_inherits
                                     WHERE inhparent = 'saga.stored_answer'::regclass
                 LOOP EXECUTE format('DROP TABLE %s', v_partition); END LOOP; END $$",
        )
        .await;
    let request = Request::post("/misbehave/fine", "{}").header("Idempotency-Key", "once");
    let address = house.target().http().unwrap().to_owned();
    let answer = tokio::spawn(async move { request.send(&address).await });
    house.paused("requests", "no partition of relation").await;
    house.database.run("SELECT saga.roll_partitions(3, 30, 3)").await;
    answer.await.unwrap().unwrap().expect(201).unwrap();
    house.ready().await;
    assert_eq!(host::active(house.target(), PLUGIN).await.unwrap(), version);
}

#[tokio::test]
async fn a_right_that_was_revoked_is_waited_for() {
    let mut house = House::new().await;
    house.database.run(&format!("REVOKE UPDATE ON public.account FROM {ROLE}")).await;
    house.write("seven", "move-7").await;
    eventually(async || {
        let parked = house.parked().await?;
        ensure!(states(&parked, "seven") == ["retrying"], "{parked:?}");
        Ok(())
    })
    .await;
    assert_eq!(house.request("move-7").await, 503);
    house.database.run(&format!("GRANT UPDATE ON public.account TO {ROLE}")).await;
    house.database.reaches(MOVES_OF_7, 1).await;
}

/// As a provider's protection against a full disk makes it. Nothing is written meanwhile, so nothing else shows
/// it.
#[tokio::test]
async fn a_database_that_is_read_only_is_named_without_traffic() {
    let mut house = House::new().await;
    let read_only = format!(r#"ALTER DATABASE "{PLUGIN}" SET default_transaction_read_only = on"#);
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    house.database.run(&read_only).await;
    house.database.run(sessions).await;
    host::not_ready(house.target(), "read-only transaction").await;
    house.database.run("SET default_transaction_read_only = off").await;
    house.database.run(&format!(r#"ALTER DATABASE "{PLUGIN}" RESET default_transaction_read_only"#)).await;
    house.database.run(sessions).await;
    host::ready(house.target()).await;
}

#[tokio::test]
async fn a_lock_that_keeps_a_relay_from_leading_is_named_without_traffic() {
    let mut house = House::new().await;
    house.database.run("BEGIN; LOCK TABLE saga.lane").await;
    host::not_ready(house.target(), "leader lease").await;
    house.database.run("ROLLBACK").await;
    host::ready(house.target()).await;
}
