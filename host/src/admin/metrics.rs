//! Counters and gauges in the Prometheus text format.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use futures::future::join_all;
use tokio::time::timeout;

use super::{Admin, database};
use crate::{rollout::service::Service, store::Database, unit::stages::Stage};

const DATABASE_ANSWERS_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let services = admin.shared.services();
    let databases = database::databases(&admin.shared);
    let depths = join_all(databases.iter().map(depths)).await;
    let mut text = Text::default();
    of_plugins(&mut text, &services);
    of_relays(&mut text, &services);
    of_databases(&mut text, &services, &databases, &depths);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0)
}

/// What one database holds.
#[derive(Default)]
struct Depths {
    outbox: i64,
    /// By plugin: in flight, of these overdue.
    sagas: BTreeMap<String, (i64, i64)>,
    /// By plugin, direction and state.
    held: BTreeMap<(String, String, String), i64>,
}

async fn depths(database: &Database) -> Option<Depths> {
    let read = async {
        let mut look = database::look(database).await?;
        let outbox = sqlx::query_scalar("SELECT count(*) FROM saga.outbox").fetch_one(&mut *look).await?;
        let sagas: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT plugin, count(*), count(*) FILTER (WHERE overdue) FROM saga.saga_live GROUP BY plugin",
        )
        .fetch_all(&mut *look)
        .await?;
        let held: Vec<(String, String, String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT plugin, direction, {} AS state, count(*) FROM saga.parked GROUP BY 1, 2, 3",
            super::held::STATE
        )))
        .fetch_all(&mut *look)
        .await?;
        Ok::<_, sqlx::Error>(Depths {
            outbox,
            sagas: sagas.into_iter().map(|(plugin, live, overdue)| (plugin, (live, overdue))).collect(),
            held: held.into_iter().map(|(plugin, way, state, count)| ((plugin, way, state), count)).collect(),
        })
    };
    timeout(DATABASE_ANSWERS_WITHIN, read).await.ok()?.ok()
}

fn of_plugins(text: &mut Text, services: &[Arc<Service>]) {
    type Counter = fn(&crate::versions::running::Counters) -> u64;
    let counters: [(&str, &str, Counter); 4] = [
        ("units_total", "Units of work committed", |c| c.units.load(Ordering::Relaxed)),
        ("deliveries_total", "Deliveries and requests in committed units", |c| {
            c.deliveries.load(Ordering::Relaxed)
        }),
        ("statements_total", "SQL statements of the plugin in committed units", |c| {
            c.statements.load(Ordering::Relaxed)
        }),
        ("plugin_errors_total", "Units that failed by the plugin's fault", |c| {
            c.errors.load(Ordering::Relaxed)
        }),
    ];
    for (name, help, value) in counters {
        text.family(name, "counter", help);
        for service in services {
            for running in service.versions() {
                let labels = [
                    ("plugin", service.name.as_str()),
                    ("version", &running.version.manifest.version),
                    ("digest", &running.version.digest),
                ];
                text.sample(name, &labels, value(&running.counters));
            }
        }
    }
    of_lanes(text, services);
}

fn of_lanes(text: &mut Text, services: &[Arc<Service>]) {
    text.family("unit_seconds_total", "counter", "Time that the units of a lane took, by stage");
    for service in services {
        for (lane, stages) in [("kafka", &service.delivery_stages), ("http", &service.request_stages)] {
            for (stage, name) in Stage::NAMED {
                let labels = [("plugin", service.name.as_str()), ("lane", lane), ("stage", name)];
                text.sample("unit_seconds_total", &labels, stages.spent(stage).as_secs_f64());
            }
        }
    }
    text.family(
        "queue_seconds_total",
        "counter",
        "Time that deliveries and requests waited for a lane, added up",
    );
    for service in services {
        for (lane, waited) in [("kafka", service.deliveries.waited()), ("http", service.requests.waited())] {
            let labels = [("plugin", service.name.as_str()), ("lane", lane)];
            text.sample("queue_seconds_total", &labels, waited.as_secs_f64());
        }
    }
    text.family("queue_bytes", "gauge", "Bytes that wait for a lane");
    for service in services {
        for (lane, bytes) in [("kafka", service.deliveries.bytes()), ("http", service.requests.bytes())] {
            text.sample("queue_bytes", &[("plugin", &service.name), ("lane", lane)], bytes);
        }
    }
}

fn of_relays(text: &mut Text, services: &[Arc<Service>]) {
    let relays: BTreeMap<&str, &Service> =
        services.iter().map(|service| (service.database.name.as_str(), &**service)).collect();
    text.family("relay_published_total", "counter", "Records handed to Kafka by this host");
    for (database, service) in &relays {
        let published = service.relay.published.load(Ordering::Relaxed);
        text.sample("relay_published_total", &[("database", database)], published);
    }
    text.family("relay_units_total", "counter", "Units of this host's relay that Kafka has acknowledged");
    for (database, service) in &relays {
        text.sample("relay_units_total", &[("database", database)], service.relay.waits.units());
    }
    text.family(
        "relay_seconds_total",
        "counter",
        "Time from commit to producer, and on to Kafka's answer, of units",
    );
    for (database, service) in &relays {
        for (stage, waited) in service.relay.waits.named() {
            text.sample(
                "relay_seconds_total",
                &[("database", database), ("stage", stage)],
                waited.as_secs_f64(),
            );
        }
    }
    text.family("relay_leads", "gauge", "1 where this host publishes what the database has committed");
    for (database, service) in &relays {
        text.sample("relay_leads", &[("database", database)], u8::from(service.relay.leads()));
    }
}

fn of_databases(
    text: &mut Text,
    services: &[Arc<Service>],
    databases: &[Database],
    depths: &[Option<Depths>],
) {
    let seen = || databases.iter().zip(depths);
    text.family("database_up", "gauge", "1 where the database answers");
    for (database, depths) in seen() {
        text.sample("database_up", &[("database", &database.name)], u8::from(depths.is_some()));
    }
    text.family("outbox_units", "gauge", "Units that Kafka has not acknowledged");
    for (database, depths) in seen() {
        if let Some(depths) = depths {
            text.sample("outbox_units", &[("database", &database.name)], depths.outbox);
        }
    }
    let of = |service: &Service| {
        let depths = seen().find(|(database, _)| database.name == service.database.name)?.1.as_ref()?;
        Some(depths.sagas.get(&service.name).copied().unwrap_or_default())
    };
    text.family("sagas_in_flight", "gauge", "Sagas that have not ended");
    for service in services {
        of(service).inspect(|(live, _)| text.sample("sagas_in_flight", &[("plugin", &service.name)], live));
    }
    text.family("sagas_overdue", "gauge", "Sagas whose deadline passed without a reply");
    for service in services {
        of(service)
            .inspect(|(_, overdue)| text.sample("sagas_overdue", &[("plugin", &service.name)], overdue));
    }
    text.family("held", "gauge", "Deliveries (in) and records (out) that wait for a retry or for a person");
    for depths in depths.iter().flatten() {
        for ((plugin, direction, state), count) in &depths.held {
            text.sample("held", &[("plugin", plugin), ("direction", direction), ("state", state)], count);
        }
    }
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP saga_host_{name} {help}\n# TYPE saga_host_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _infallible = writeln!(self.0, "saga_host_{name}{{{}}} {value}", labels.join(","));
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn labels_are_quoted() {
        let mut text = Text::default();
        text.family("held", "gauge", "Held");
        text.sample("held", &[("plugin", "a\"b\\c\nd"), ("state", "dead_letter")], 3);
        assert_eq!(
            text.0,
            "# HELP saga_host_held Held\n# TYPE saga_host_held gauge\n\
             saga_host_held{plugin=\"a\\\"b\\\\c\\nd\",state=\"dead_letter\"} 3\n"
        );
    }
}
