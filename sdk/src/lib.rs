//! What a saga-host plugin in Rust is written with.
//!
//! A plugin is a [`Definition`]: which records, requests and sagas it handles, and with what. Handlers are
//!
//! - a [`Fold`] for records and for requests that write: it loads rows for the whole batch, decides on one
//!   delivery at a time (pure, in order, each seeing what earlier ones changed), and stores the changed rows
//!   together;
//! - a [`Read`] for `GET` requests: one query, one answer;
//! - a [`Saga`]: a list of steps, each of which may be undone, and a judgement of replies.
//!
//! What a decision wants sent it puts into [`Effects`]; the host writes it in the same transaction as the
//! rows. A decision that says "no" ([`Outcome`] other than done, a [`Response`] of 400 or more) leaves
//! nothing behind, and the others of its batch are not touched.
//!
//! ```ignore
//! use saga_plugin::{Correlation, Db, DbResult, Definition, Effects, Event, Fold, Outcome, Table, keys, many};
//!
//! fn define() -> Definition {
//!     Definition::new("points", env!("CARGO_PKG_VERSION")).on::<Collect>("purchase-topic", Correlation::Json("/customer"))
//! }
//! saga_plugin::plugin!(define);
//!
//! struct Collect;
//!
//! impl Fold for Collect {
//!     type Input = Event<Purchase>;
//!     type Rows = Table<i64, i64>;
//!
//!     fn load(db: &Db<'_>, purchases: &[Event<Purchase>]) -> DbResult<Table<i64, i64>> {
//!         let customers = keys(purchases, |purchase| purchase.0.customer);
//!         let found = db.query(
//!             "SELECT customer, points FROM public.account WHERE customer = ANY ($1) ORDER BY customer FOR UPDATE",
//!             &[many(customers)],
//!         )?;
//!         Ok(found.rows()?.into_iter().collect())
//!     }
//!
//!     fn decide(accounts: &mut Table<i64, i64>, Event(purchase): &Event<Purchase>, _: &mut Effects<'_>) -> Outcome {
//!         let Some(points) = accounts.get(&purchase.customer) else { return Outcome::ignored("no account") };
//!         accounts.set(purchase.customer, points + purchase.amount / 10);
//!         Outcome::Done
//!     }
//!
//!     fn store(db: &Db<'_>, accounts: &Table<i64, i64>) -> DbResult<()> {
//!         let (customers, points): (Vec<i64>, Vec<i64>) = accounts.changed().unzip();
//!         db.execute(
//!             "UPDATE public.account a SET points = v.points
//!                FROM unnest($1::bigint[], $2::bigint[]) v (customer, points) WHERE a.customer = v.customer",
//!             &[many(customers), many(points)],
//!         )?;
//!         Ok(())
//!     }
//! }
//! ```
//!
//! All of it but `load` and `store` runs natively in unit tests, see [`testing`].

pub mod bindings;
mod context;
pub mod db;
mod definition;
pub mod dispatch;
pub mod effects;
mod fold;
pub mod host;
mod input;
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

/// Makes a component of a function that gives the plugin's [`Definition`].
#[macro_export]
macro_rules! plugin {
    ($define:path) => {
        /// What this plugin is, for native tests.
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
