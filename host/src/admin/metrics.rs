//! `GET /metrics`: counters, gauges and histograms as OpenMetrics text, which Prometheus scrapes.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use futures::future::join_all;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{TypedMetric, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tokio::time::timeout;

use super::{Admin, database, parked, sagas};
use crate::{
    rollout::service::Service,
    store::Database,
    unit::stages::{Stage, Stages},
    versions::running::{Counters, Running},
};

const DATABASE_ANSWERS_WITHIN: Duration = Duration::from_secs(3);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let services = admin.services.all();
    let databases = database::databases(&admin.services);
    let depths = join_all(databases.iter().map(depths)).await;
    let names = databases.into_iter().map(|database| database.name);
    let mut registry = Registry::with_prefix("saga_host");
    registry.register_collector(Box::new(Versions(services.clone())));
    registry.register_collector(Box::new(Lanes(services.clone())));
    registry.register_collector(Box::new(Relays(services.clone())));
    registry.register_collector(Box::new(DatabaseMetrics { services, depths: names.zip(depths).collect() }));
    let mut body = String::new();
    // Writing into memory does not fail.
    let _infallible = text::encode(&mut body, &registry);
    ([(CONTENT_TYPE, OPENMETRICS)], body)
}

/// Encodes one metric family with its samples.
fn family<L: EncodeLabelSet, M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<Unit>),
    help: &str,
    samples: impl IntoIterator<Item = (L, M)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), M::TYPE)?;
    samples.into_iter().try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
}

/// What the versions of each plugin have done.
#[derive(Debug)]
struct Versions(Vec<Arc<Service>>);

impl Collector for Versions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type Pick = fn(&Counters) -> &AtomicU64;
        let counters: [(&str, &str, Pick); 4] = [
            ("units", "Committed units of work", |c| &c.units),
            ("deliveries", "Deliveries and requests in committed units", |c| &c.deliveries),
            ("statements", "SQL statements of the plugin in committed units", |c| &c.statements),
            ("plugin_errors", "Units that failed by the plugin's fault", |c| &c.errors),
        ];
        let running: Vec<Arc<Running>> =
            self.0.iter().flat_map(|service| service.versions.running()).collect();
        for (name, help, pick) in counters {
            let samples = running.iter().map(|running| {
                let (version, count) = (&*running.version, pick(&running.counters).load(Ordering::Relaxed));
                let labels = [
                    ("plugin", &*version.plugin),
                    ("version", &*version.manifest.version),
                    ("digest", &*version.digest),
                ];
                (labels, ConstCounter::new(count))
            });
            family(&mut encoder, (name, None), help, samples)?;
        }
        let sagas = self.0.iter().flat_map(|service| {
            let histograms = service.backend.saga_durations.by_ending().iter();
            histograms.map(|(ending, sagas)| {
                ([("plugin", service.name().as_str()), ("ending", *ending)], sagas.clone())
            })
        });
        let help = "Time from the start of a saga to its end";
        family(&mut encoder, ("saga_duration", Some(Unit::Seconds)), help, sagas)?;
        let ignored = self.0.iter().flat_map(|service| {
            let reasons = service.backend.ignored.by_reason().into_iter();
            reasons.map(|(reason, count)| {
                ([("plugin", service.name().to_string()), ("reason", reason)], ConstCounter::new(count))
            })
        });
        let help =
            "Deliveries that changed nothing, by the reason of the plugin: late, unknown, contradicting";
        family(&mut encoder, ("ignored", None), help, ignored)
    }
}

/// The two lanes of each plugin.
#[derive(Debug)]
struct Lanes(Vec<Arc<Service>>);

impl Lanes {
    fn stages(&self) -> impl Iterator<Item = ([(&str, &str); 2], &Stages)> {
        self.0.iter().flat_map(|service| {
            let lanes = [("kafka", &*service.delivery_stages), ("http", &*service.request_stages)];
            lanes.map(|(lane, stages)| (lane_labels(service, lane), stages))
        })
    }
}

fn lane_labels<'a>(service: &'a Service, lane: &'a str) -> [(&'a str, &'a str); 2] {
    [("plugin", service.name().as_str()), ("lane", lane)]
}

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stages = self.stages().flat_map(|([plugin, lane], stages)| {
            Stage::NAMED.map(|(stage, name)| {
                ([plugin, lane, ("stage", name)], ConstCounter::new(stages.spent(stage).as_secs_f64()))
            })
        });
        let help = "Time that the units of a lane took, by stage";
        family(&mut encoder, ("unit", Some(Unit::Seconds)), help, stages)?;
        let units = self.stages().map(|(labels, stages)| (labels, stages.units.clone()));
        let help = "Time that a unit took that reached its COMMIT";
        family(&mut encoder, ("unit_duration", Some(Unit::Seconds)), help, units)?;
        let commits = self.stages().map(|(labels, stages)| (labels, stages.commits.clone()));
        family(&mut encoder, ("commit_duration", Some(Unit::Seconds)), "Time that a COMMIT took", commits)?;
        let handed_over = self.0.iter().map(|service| {
            let count = service.consumer.handed_over.load(Ordering::Relaxed);
            ([("plugin", service.name().as_str())], ConstCounter::new(count))
        });
        let help = "Deliveries that a relay of this host has handed over, before Kafka has brought them";
        family(&mut encoder, ("deliveries_handed_over", None), help, handed_over)?;
        let waited = self.0.iter().flat_map(|service| {
            [("kafka", service.deliveries.total_wait()), ("http", service.endpoint.requests.total_wait())]
                .map(|(lane, waited)| (lane_labels(service, lane), ConstCounter::new(waited.as_secs_f64())))
        });
        let help = "Time that deliveries and requests waited for a lane, added up";
        family(&mut encoder, ("queue", Some(Unit::Seconds)), help, waited)?;
        let bytes = self.0.iter().flat_map(|service| {
            [("kafka", service.deliveries.bytes()), ("http", service.endpoint.requests.bytes())]
                .map(|(lane, bytes)| (lane_labels(service, lane), ConstGauge::new(gauge(bytes))))
        });
        family(&mut encoder, ("queue", Some(Unit::Bytes)), "Bytes that wait for a lane", bytes)
    }
}

/// The relay of each database.
#[derive(Debug)]
struct Relays(Vec<Arc<Service>>);

impl Collector for Relays {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let relays: BTreeMap<&str, _> =
            self.0.iter().map(|service| (&*service.backend.database.name, &service.backend.relay)).collect();
        let each = || relays.iter().map(|(database, relay)| ([("database", *database)], *relay));
        let published = each()
            .map(|(labels, relay)| (labels, ConstCounter::new(relay.published.load(Ordering::Relaxed))));
        let help = "Records that this host has handed to the Kafka client";
        family(&mut encoder, ("relay_published", None), help, published)?;
        let units =
            each().map(|(labels, relay)| (labels, ConstCounter::new(relay.latency.acknowledged_units())));
        let help = "Units of this host's relay that Kafka has acknowledged";
        family(&mut encoder, ("relay_units", None), help, units)?;
        let stages = each().flat_map(|([database], relay)| {
            relay.latency.stages().map(|(stage, waited)| {
                ([database, ("stage", stage)], ConstCounter::new(waited.as_secs_f64()))
            })
        });
        let help = "Time from a unit's commit to the Kafka client, and from there to Kafka's acknowledgement";
        family(&mut encoder, ("relay", Some(Unit::Seconds)), help, stages)?;
        let durations = each().map(|(labels, relay)| (labels, relay.latency.durations.clone()));
        let help = "Time from a unit's commit to Kafka's acknowledgement of its records";
        family(&mut encoder, ("relay_duration", Some(Unit::Seconds)), help, durations)?;
        let mut waiting: BTreeMap<[(&str, String); 3], i64> = BTreeMap::new();
        for (database, relay) in &relays {
            for trouble in relay.troubles() {
                let labels = [
                    ("database", (*database).to_owned()),
                    ("topic", trouble.place.0),
                    ("reason", trouble.reason),
                ];
                *waiting.entry(labels).or_default() += 1;
            }
        }
        let waiting = waiting.into_iter().map(|(labels, count)| (labels, ConstGauge::new(count)));
        let help = "Partitions whose records Kafka does not accept for now";
        family(&mut encoder, ("relay_waiting_partitions", None), help, waiting)?;
        let leads = each().map(|(labels, relay)| (labels, ConstGauge::new(i64::from(relay.is_leader()))));
        let help = "1 where this host leads: it publishes what is committed to the database";
        family(&mut encoder, ("relay_leads", None), help, leads)
    }
}

/// What one database holds.
#[derive(Debug)]
struct Depths {
    outbox: i64,
    in_flight: Vec<sagas::InFlight>,
    parked: Vec<parked::ParkedCount>,
}

/// None when the database does not answer in time.
async fn depths(database: &Database) -> Option<Depths> {
    let read = async {
        let mut reading = database::read_only(database).await?;
        let outbox = sqlx::query_scalar("SELECT count(*) FROM saga.outbox").fetch_one(&mut *reading).await?;
        let in_flight = sagas::in_flight(&mut reading).await?;
        Ok::<_, sqlx::Error>(Depths { outbox, in_flight, parked: parked::counts(&mut reading).await? })
    };
    timeout(DATABASE_ANSWERS_WITHIN, read).await.ok()?.ok()
}

/// What all databases hold, by name; none where one does not answer.
#[derive(Debug)]
struct DatabaseMetrics {
    services: Vec<Arc<Service>>,
    depths: BTreeMap<String, Option<Depths>>,
}

impl DatabaseMetrics {
    /// Sagas in flight and overdue ones of each plugin whose database answers.
    fn sagas(&self) -> impl Iterator<Item = ([(&str, &str); 1], (i64, i64))> {
        self.services.iter().filter_map(|service| {
            let depths = self.depths.get(&service.backend.database.name)?.as_ref()?;
            let of_plugin = depths.in_flight.iter().find(|count| count.plugin == service.name().as_str());
            let counts = of_plugin.map_or((0, 0), |count| (count.sagas, count.overdue));
            Some(([("plugin", service.name().as_str())], counts))
        })
    }
}

impl Collector for DatabaseMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let up = self.depths.iter().map(|(database, depths)| {
            ([("database", &**database)], ConstGauge::new(i64::from(depths.is_some())))
        });
        family(&mut encoder, ("database_up", None), "1 where the database answers", up)?;
        let outboxes = self.depths.iter().filter_map(|(database, depths)| {
            Some(([("database", &**database)], ConstGauge::new(depths.as_ref()?.outbox)))
        });
        family(&mut encoder, ("outbox_units", None), "Units that Kafka has not acknowledged", outboxes)?;
        let sagas = self.sagas().map(|(labels, (sagas, _))| (labels, ConstGauge::new(sagas)));
        family(&mut encoder, ("sagas_in_flight", None), "Sagas that have not ended", sagas)?;
        let overdue = self.sagas().map(|(labels, (_, overdue))| (labels, ConstGauge::new(overdue)));
        let help = "Sagas whose deadline passed without a reply";
        family(&mut encoder, ("sagas_overdue", None), help, overdue)?;
        let parked = self.depths.values().flatten().flat_map(|depths| &depths.parked).map(|count| {
            let labels =
                [("plugin", &*count.plugin), ("direction", &*count.direction), ("state", &*count.state)];
            (labels, ConstGauge::new(count.entries))
        });
        let help = "Deliveries (in) and records (out) that wait for a retry or for a person";
        family(&mut encoder, ("parked", None), help, parked)
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeMap;

    use prometheus_client::{encoding::text, registry::Registry};

    use super::{DatabaseMetrics, Depths, parked::ParkedCount};

    #[test]
    fn what_is_parked_is_a_gauge_by_plugin_direction_and_state() {
        let parked = vec![ParkedCount {
            plugin: "a\"b".to_owned(),
            direction: "in".to_owned(),
            state: "dead_letter".to_owned(),
            entries: 3,
        }];
        let depths = Depths { outbox: 0, in_flight: Vec::new(), parked };
        let depths = BTreeMap::from([("a".to_owned(), Some(depths)), ("b".to_owned(), None)]);
        let mut registry = Registry::with_prefix("saga_host");
        registry.register_collector(Box::new(DatabaseMetrics { services: Vec::new(), depths }));
        let mut body = String::new();
        text::encode(&mut body, &registry).unwrap();
        let samples: Vec<&str> = body.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"saga_host_database_up{database="a"} 1"#,
                r#"saga_host_database_up{database="b"} 0"#,
                r#"saga_host_outbox_units{database="a"} 0"#,
                r#"saga_host_parked{plugin="a\"b",direction="in",state="dead_letter"} 3"#,
            ]
        );
        assert!(body.ends_with("# EOF\n"), "{body}");
    }
}
