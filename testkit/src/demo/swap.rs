//! Replaces the component of the running orchestrator; the new version handles the next order.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::order::Expected;
use super::{Demo, eventually, show};
use crate::caller::Request;
use crate::plugin_folder;

pub(super) const PLUGIN: &str = "order-orchestrator";
const REFILL: i64 = 5;
const ORDERED: i64 = 2;

impl Demo {
    pub(super) async fn swap(&self, product: i64) -> Result<()> {
        show::step(&format!("a changed {PLUGIN}.wasm replaces the running one"));
        let before = self.active().await?;
        let began = Instant::now();
        plugin_folder::change(&self.start.plugins, PLUGIN)?;
        let after = eventually(async || {
            let active = self.active().await?;
            ensure!(active != before, "{PLUGIN} {} is still active", show::digest(&before));
            Ok(active)
        })
        .await?;
        show::done(&format!(
            "{} active, was {}; after {} ms",
            show::digest(&after),
            show::digest(&before),
            began.elapsed().as_millis()
        ));
        let path = format!("/stocks/{product}?qty={REFILL}");
        Request::new("PATCH", path).send(self.target.http()?).await?.expect(200)?;
        let expected = Expected::confirmed(REFILL - ORDERED);
        let saga = self.order("the next order", product, ORDERED, &expected).await?;
        for step in saga["timeline"].as_array().into_iter().flatten() {
            ensure!(step["digest"] == after, "{} was handled by {}", step["event"], step["digest"]);
        }
        show::done(&format!("handled by {}", show::digest(&after)));
        Ok(())
    }

    async fn active(&self) -> Result<String> {
        let path = format!("/v1/plugins/{PLUGIN}");
        let plugin = Request::get(path).send(self.target.admin()?).await?.expect(200)?.json()?;
        let versions = plugin["versions"].as_array().into_iter().flatten();
        let active: Vec<&Value> = versions.filter(|version| version["state"] == "active").collect();
        ensure!(active.len() == 1, "{} active versions: {plugin}", active.len());
        active[0]["digest"].as_str().map(str::to_owned).context("a version without a digest")
    }
}
