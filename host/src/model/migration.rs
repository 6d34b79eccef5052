//! A change of a database schema.

/// One change of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Migration {
    /// File name; names sort in the order of application.
    pub name: String,
    /// One or more statements.
    pub sql: String,
}
