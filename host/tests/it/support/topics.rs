//! Topics with settings of their own.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};
use saga_testkit::target::Target;

use super::SOON;

fn admin(target: &Target) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &target.kafka).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(SOON))
}

/// Creates a topic.
pub(crate) async fn create(target: &Target, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let created = admin(target).create_topics(&[new], &options()).await.unwrap();
    created.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Changes one setting. The broker applies it soon after.
pub(crate) async fn set(target: &Target, topic: &str, name: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let changed = admin(target).alter_configs(&[change], &options()).await.unwrap();
    changed.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Deletes a topic.
pub(crate) async fn delete(target: &Target, topic: &str) {
    let deleted = admin(target).delete_topics(&[topic], &options()).await.unwrap();
    deleted.into_iter().for_each(|topic| drop(topic.unwrap()));
}
