//! Single HTTP requests, each on its own connection, with the whole reply at hand: for checks, not for load.

mod reply;
mod request;

pub use reply::Reply;
pub use request::Request;
