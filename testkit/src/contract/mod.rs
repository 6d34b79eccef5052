//! The wire contract, checked on a running system from outside, one function per area. Each area creates its
//! own products and orders, so areas run alone, in any order, and again on the same system.

pub mod bad_input;
pub mod events;
pub mod foreign_order;
pub mod foreign_reply;
pub mod foreign_stock;
pub mod host_api;
pub mod idempotency;
pub mod methods;
pub mod orders;
pub mod paging;
pub mod parked;
pub mod records;
pub mod stocks;
pub mod system;
pub mod waiting;

use anyhow::Result;
use clap::ValueEnum;

use crate::report::Report;
use crate::target::{Target, TargetOptions};
use system::System;

/// A part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// POST /orders and its answers
    Orders,
    /// The same request twice
    Idempotency,
    /// Requests that are refused and write nothing
    BadInput,
    /// POST and PATCH of stocks
    Stocks,
    /// Prefer: wait
    Waiting,
    /// Events and notifications of an order
    Events,
    /// Lists, filters and pages
    Paging,
    /// HEAD, OPTIONS, 404 and 405
    Methods,
    /// Values, keys and headers of the six topics
    Records,
    /// Orders of other services
    ForeignOrder,
    /// Replies and notifications of other services
    ForeignReply,
    /// Stock records of other services
    ForeignStock,
    /// Records that no plugin can handle
    Parked,
    /// The host API
    HostApi,
}

/// Options of `saga-testkit contract`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: TargetOptions,
    /// Only these areas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Area>,
}

/// Runs `saga-testkit contract`.
///
/// # Errors
/// A check failed.
pub async fn run(options: Options) -> Result<()> {
    let mut report = Report::default();
    let areas = if options.only.is_empty() { Area::value_variants() } else { &options.only };
    check(options.target.target()?, areas, &mut report).await?;
    report.finish()
}

/// Checks areas of the contract on a running system.
///
/// # Errors
/// The system is unreachable. A broken contract is a failed check in `report`.
pub async fn check(target: Target, areas: &[Area], report: &mut Report) -> Result<()> {
    let system = System::connect(target)?;
    for area in areas {
        match area {
            Area::Orders => orders::check(&system, report).await,
            Area::Idempotency => idempotency::check(&system, report).await,
            Area::BadInput => bad_input::check(&system, report).await,
            Area::Stocks => stocks::check(&system, report).await,
            Area::Waiting => waiting::check(&system, report).await,
            Area::Events => events::check(&system, report).await,
            Area::Paging => paging::check(&system, report).await,
            Area::Methods => methods::check(&system, report).await,
            Area::Records => records::check(&system, report).await,
            Area::ForeignOrder => foreign_order::check(&system, report).await,
            Area::ForeignReply => foreign_reply::check(&system, report).await,
            Area::ForeignStock => foreign_stock::check(&system, report).await,
            Area::Parked => parked::check(&system, report).await,
            Area::HostApi => host_api::check(&system, report).await,
        }
    }
    system.databases.close().await;
    Ok(())
}
