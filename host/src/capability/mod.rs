//! What a guest imports: SQL in its unit's transaction, messages, sagas, timers, context. All but
//! SQL is buffered as [`effects`].

pub mod effects;
