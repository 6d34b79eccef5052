//! `saga-host dev`

use std::path::PathBuf;

use saga_devstack::Stack;

use super::{
    output,
    serve::{Signals, block_on},
    stack::{StackArgs, banner, stop},
};
use crate::{
    admin::check_exposure,
    config::{
        ADMIN_DEFAULT, CallerLimits, Config, HTTP_DEFAULT, KafkaProperties, MigrationsMode,
        TOPIC_PARTITIONS_DEFAULT, TOPIC_REPLICATION_DEFAULT,
    },
    listener, log,
    runtime::Host,
};

#[derive(Debug, clap::Args)]
pub(super) struct Dev {
    #[command(flatten)]
    stack: StackArgs,
    /// Address of the service routes
    #[arg(long, env = "SAGA_HOST_HTTP", value_name = "ADDR", default_value = HTTP_DEFAULT)]
    http: String,
    /// Address of the host API
    #[arg(long, env = "SAGA_HOST_ADMIN", value_name = "ADDR", default_value = ADMIN_DEFAULT)]
    admin: String,
    /// Token of the host API, required when its address is not on loopback
    #[arg(long, env = "SAGA_HOST_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Folder of the plugins; a missing policy is written there
    #[arg(long, env = "SAGA_HOST_PLUGINS", value_name = "DIR", default_value = "plugins/dist")]
    plugins: PathBuf,
    /// How to treat schema migrations
    #[arg(long, env = "SAGA_HOST_MIGRATIONS", value_enum, default_value = "apply")]
    migrations: MigrationsMode,
    /// Any librdkafka properties, e.g. session.timeout.ms=6000
    #[arg(long, env = "SAGA_HOST_KAFKA_PROPERTIES", hide_env_values = true, value_name = "NAME=VALUE,...")]
    kafka_properties: Option<KafkaProperties>,
    /// Worker threads [default: one per core]
    #[arg(long, env = "SAGA_HOST_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Format of log lines
    #[arg(long, env = "SAGA_HOST_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: log::LogFormat,
}

impl Dev {
    pub(super) fn run(self) -> anyhow::Result<()> {
        log::init(self.log_format)?;
        block_on(self.workers, async {
            // Fail on a taken address before the broker takes its time to start.
            listener::bind("the service routes", "--http", &self.http).await?;
            let admin = listener::bind("the host API", "--admin", &self.admin).await?;
            check_exposure(&admin.local_addr()?, self.admin_token.as_deref())?;
            drop(admin);
            let mut signals = Signals::new()?;
            let stack = self.stack.start(&mut signals).await?;
            let served = self.serve(&stack, &mut signals).await;
            let stopped = stop(stack, &mut signals).await;
            served.and(stopped)
        })
    }

    async fn serve(&self, stack: &Stack, signals: &mut Signals) -> anyhow::Result<()> {
        let config = self.config(stack);
        let host = signals.or_stop(Host::start(config), "starting").await??;
        let (http, admin) = (host.http_address().to_string(), host.admin_address().to_string());
        stack.write_dev_json(Some(&http), Some(&admin))?;
        let further = [
            ("services", format!("http://{http}")),
            ("host API", format!("http://{admin}")),
            ("plugins", format!("{}, watched", self.plugins.display())),
            ("data", format!("{}, kept between starts; --fresh deletes it", self.stack.data.display())),
        ];
        output::line(&banner(stack, &further));
        tokio::select! {
            served = signals.serve(host) => served,
            error = stack.failed() => Err(error),
        }
    }

    fn config(&self, stack: &Stack) -> Config {
        Config {
            postgres: stack.postgres_url().to_owned(),
            postgres_password_file: None,
            kafka: stack.kafka_bootstrap().to_owned(),
            kafka_properties: self.kafka_properties.clone().unwrap_or_default().0,
            http: self.http.clone(),
            admin: self.admin.clone(),
            admin_token: self.admin_token.clone().filter(|token| !token.is_empty()),
            plugins: self.plugins.clone(),
            cache: self.stack.data.join("cache"),
            migrations: self.migrations,
            development: true,
            topic_partitions: TOPIC_PARTITIONS_DEFAULT,
            topic_replication: TOPIC_REPLICATION_DEFAULT,
            callers: CallerLimits::default(),
        }
    }
}
