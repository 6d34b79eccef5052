//! What the host knows of sagas: their log, and when they must be looked at again. What a saga
//! does next is the plugin's decision.

pub mod log;
