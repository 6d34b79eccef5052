//! The host's side of Postgres: each service's database, its schema, roles and connections.
//!
//! Never holds a business table: those belong to the plugins' migrations and are reached by
//! their restricted roles alone.

mod connect;
mod contracting;
mod migrate;
mod provision;
mod retention;

pub use connect::{Database, Server};
pub mod session;
pub use migrate::Migrations;
#[cfg(test)]
pub(crate) use migrate::host_migrations;
pub use provision::{PluginRole, ProvisionError};
pub use retention::roll_partitions;

/// Quotes an identifier for a statement that cannot take it as a parameter.
fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text literal for a statement that cannot take it as a parameter; NUL, which no text
/// of Postgres can hold, is dropped. It means the same whatever `standard_conforming_strings` is: a
/// guest may have changed that.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("E'{}'", text.replace('\0', "").replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{quote_ident, quote_literal};

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote_literal("it's\0"), "E'it''s'");
        assert_eq!(quote_literal(r"a\'b\"), r"E'a\\''b\\'");
    }
}
