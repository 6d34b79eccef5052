//! `dev.json`: the addresses of a running stack, for other programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use crate::Stack;

#[derive(Serialize)]
struct Addresses<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<&'a str>,
    kafka: &'a str,
    postgres: &'a str,
    pids: Pids,
}

#[derive(Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<u32>,
    kafka: u32,
    postgres: u32,
}

/// The file of one stack; dropping this removes it.
#[derive(Debug)]
pub(super) struct DevJson(PathBuf);

impl DevJson {
    /// Removes the file of an earlier stack that was killed.
    pub(super) fn new(data: &Path) -> Self {
        let file = data.join("dev.json");
        let _ = fs::remove_file(&file);
        Self(file)
    }

    /// Replaces the file atomically.
    pub(super) fn write(&self, http: Option<&str>, admin: Option<&str>, stack: &Stack) -> anyhow::Result<()> {
        let pids = stack.pids();
        let addresses = Addresses {
            http,
            admin,
            kafka: stack.kafka_bootstrap(),
            postgres: stack.postgres_url(),
            pids: Pids {
                host: http.or(admin).map(|_| std::process::id()),
                kafka: pids.kafka,
                postgres: pids.postgres,
            },
        };
        let part = self.0.with_extension("json.part");
        fs::write(&part, serde_json::to_string_pretty(&addresses)?)
            .and_then(|()| fs::rename(&part, &self.0))
            .with_context(|| format!("writing {}", self.0.display()))
    }
}

impl Drop for DevJson {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
