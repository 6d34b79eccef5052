//! Migrations of a database schema.

/// One migration of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Migration {
    /// File name. Migrations are applied in the order of their names.
    pub name: String,
    /// One or more SQL statements.
    pub sql: String,
}
