//! x
/// x
#[derive(Debug, clap::Args)]
pub struct Options {}
/// x
/// # Errors
/// x
pub async fn run(_: Options) -> anyhow::Result<()> {
    Ok(())
}
