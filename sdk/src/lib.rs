//! The SDK for saga-host plugins in Rust.
//!
//! A plugin is the part of a service that decides. The host delivers Kafka records, HTTP requests, timers
//! and deadlines to it in batches, runs each batch in one Postgres transaction, and publishes the plugin's
//! messages after the commit. `wit/` has the interfaces; this crate makes them convenient in Rust.
//!
//! # Parts
//!
//! A [`Definition`] lists what the plugin handles, and with which handlers:
//!
//! - a [`Fold`] for records and for requests that write. It loads rows for the whole batch, decides on one
//!   input at a time (pure, in order, each sees what earlier ones changed), and stores the changed rows;
//! - a [`Read`] for `GET` requests: a query and its answer;
//! - a [`Saga`]: a list of steps, each with an optional undo, and a judgement of replies.
//!
//! A decision puts messages, sagas, timers and log lines into [`Effects`]. The host writes them in the same
//! transaction as the rows. A decision that says "no" (an [`Outcome`] other than `Done`, a [`Response`] of
//! 400 or more) leaves nothing behind, and does not touch the rest of its batch.
//!
//! # Example
//!
//! ```
//! use saga_plugin::{
//!     Correlation, Db, DbResult, Definition, Effects, Event, Fold, Outcome, Table, keys, many,
//! };
//!
//! fn define() -> Definition {
//!     Definition::new("points", env!("CARGO_PKG_VERSION"))
//!         .on::<Collect>("purchase-topic", Correlation::Json("/customer"))
//! }
//! saga_plugin::plugin!(define);
//!
//! #[derive(serde::Deserialize)]
//! struct Purchase {
//!     customer: i64,
//!     amount: i64,
//! }
//!
//! struct Collect;
//!
//! impl Fold for Collect {
//!     type Input = Event<Purchase>;
//!     /// Points by customer.
//!     type Rows = Table<i64, i64>;
//!
//!     fn load(db: &Db<'_>, purchases: &[Event<Purchase>]) -> DbResult<Self::Rows> {
//!         let found = db.query(
//!             "SELECT customer, points FROM public.account
//!               WHERE customer = ANY ($1) ORDER BY customer FOR UPDATE",
//!             &[many(keys(purchases, |purchase| purchase.0.customer))],
//!         )?;
//!         Ok(found.rows()?.into_iter().collect())
//!     }
//!
//!     fn decide(accounts: &mut Self::Rows, bought: &Event<Purchase>, _: &mut Effects<'_>) -> Outcome {
//!         let Purchase { customer, amount } = bought.0;
//!         let Some(points) = accounts.get(&customer).copied() else {
//!             return Outcome::ignored("no account");
//!         };
//!         accounts.set(customer, points + amount / 10);
//!         Outcome::Done
//!     }
//!
//!     fn store(db: &Db<'_>, accounts: &Self::Rows) -> DbResult<()> {
//!         let (customers, points): (Vec<i64>, Vec<i64>) = accounts.changed().unzip();
//!         db.execute(
//!             "UPDATE public.account a SET points = v.points
//!                FROM unnest($1::bigint[], $2::bigint[]) v (customer, points)
//!               WHERE a.customer = v.customer",
//!             &[many(customers), many(points)],
//!         )?;
//!         Ok(())
//!     }
//! }
//! ```
//!
//! # Build, test, deploy
//!
//! With the crate type `["cdylib", "rlib"]`, `cargo build --target wasm32-wasip2` makes the component, and
//! `cargo test` runs decisions natively, without a component or a database (see [`testing`]). `saga-host
//! check FILE.wasm` says whether a host accepts it. To activate it, put it into the plugin folder of a
//! running host, with its policy: `points.toml` names the database, topics and routes that it may use.

pub mod bindings;
mod context;
pub mod db;
mod definition;
pub mod dispatch;
pub mod effects;
mod fold;
pub mod host;
mod input;
mod json;
mod page;
mod positive;
mod problem;
mod read;
mod response;
mod rows;
pub mod saga;
pub mod testing;
mod timestamp;
mod unit;
mod uuid;

pub use context::Context;
pub use db::{Db, DbError, DbResult, many, many_or_null, null, one};
pub use definition::{Correlation, Definition, Migration};
pub use effects::Effects;
pub use fold::Fold;
pub use input::{Answer, Body, Delay, Delivery, Event, Input, Outcome, Request, Response, SagaName, Source};
pub use page::{LIMIT_DEFAULT, LIMIT_MAX, Page};
pub use positive::{EXPECTED as POSITIVE, Positive};
pub use problem::Problem;
pub use read::Read;
pub use rows::{Added, Claims, Rows, Table, keys};
pub use saga::{Ending, Finished, OnDeadline, Saga, Step, Verdict};
pub use timestamp::Timestamp;
pub use uuid::Uuid;

/// Makes a component from a function that returns the plugin's [`Definition`].
#[macro_export]
macro_rules! plugin {
    ($define:path) => {
        /// The plugin, for native tests.
        #[must_use]
        pub fn definition() -> $crate::Definition {
            $define()
        }

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, missing_docs, reason = "generated")]
        mod component {
            use $crate::bindings::{
                exports::saga::plugin::{
                    deliveries::{self, Delivery, Outcome},
                    manifest::{self, Description},
                    requests::{self, Request, Response},
                },
                saga::plugin::{sagas::Saga, types::Failure},
            };

            struct Component;

            impl manifest::Guest for Component {
                fn describe() -> Description {
                    super::definition().describe()
                }
            }

            impl deliveries::Guest for Component {
                fn handle(batch: Vec<Delivery>, sagas: Vec<Saga>) -> Result<Vec<Outcome>, Failure> {
                    $crate::dispatch::deliveries(&super::definition(), &$crate::host::Wasm, &batch, sagas)
                }
            }

            impl requests::Guest for Component {
                fn handle(batch: Vec<Request>) -> Result<Vec<Response>, Failure> {
                    $crate::dispatch::requests(&super::definition(), &$crate::host::Wasm, &batch)
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        }
    };
}
