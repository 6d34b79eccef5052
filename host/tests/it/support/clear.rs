//! Empties a stack for the next test: drops the databases, topics and groups of the order system and of the
//! tests' own plugin.

use anyhow::ensure;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};
use saga_testkit::{
    service::{SERVICES, TOPICS},
    target::Target,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{SOON, eventually, guest, trip};

pub(super) async fn all(target: &Target) {
    let mut postgres = PgConnection::connect(&target.postgres).await.unwrap();
    for database in
        SERVICES.iter().map(|service| service.database).chain([guest::PLUGIN]).chain(trip::PLUGINS)
    {
        let drop = format!(r#"DROP DATABASE IF EXISTS "{database}" WITH (FORCE)"#);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut postgres).await.unwrap();
    }
    postgres.close().await.unwrap();
    eventually(async || kafka(&target.kafka).await).await;
}

/// Kafka deletes a group only when its last member has left.
async fn kafka(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    let of_tests = [guest::PLUGIN].into_iter().chain(trip::PLUGINS);
    let groups: Vec<&str> = SERVICES.iter().map(|service| service.plugin).chain(of_tests).collect();
    let topics: Vec<&str> =
        TOPICS.into_iter().chain([guest::TOPIC, guest::DONE]).chain(trip::TOPICS).collect();
    let absent = [RDKafkaErrorCode::GroupIdNotFound, RDKafkaErrorCode::UnknownTopicOrPartition];
    let gone = admin.delete_groups(&groups, &options).await?.into_iter();
    for outcome in gone.chain(admin.delete_topics(&topics, &options).await?) {
        ensure!(outcome.as_ref().map_or_else(|(_, code)| absent.contains(code), |_| true), "{outcome:?}");
    }
    let present = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, SOON)?;
        Ok::<_, anyhow::Error>(metadata.topics().iter().any(|topic| topics.contains(&topic.name())))
    });
    ensure!(!present.await??, "topics are still there");
    Ok(())
}
