//! Single HTTP requests, each on its own connection and with its whole reply in memory: for checks, not for
//! load.

mod reply;
mod request;

pub use reply::Reply;
pub use request::Request;
