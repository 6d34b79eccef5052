//! The databases in Postgres: their schemas, roles and connections.
//!
//! It never accesses a business table: these belong to the plugins' migrations, and only the plugins'
//! restricted roles use them.

mod apply;
mod connect;
mod contracting;
mod identity;
mod login;
mod migrate;
mod ownership;
mod provision;
mod provision_error;
mod retention;
mod rights;
mod role_limits;
mod roles;
pub mod session;
mod session_functions;
mod sessions;

pub use self::{
    connect::{Database, Server},
    identity::confirm_identity,
    login::LoginError,
    migrate::Migrations,
    provision_error::ProvisionError,
    retention::roll_partitions,
    roles::PluginRole,
    sessions::Unsuitable,
};

/// Quotes an identifier for a statement that cannot take it as a parameter.
fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text literal for a statement that cannot take it as a parameter. Drops NUL, which Postgres cannot
/// store in text. The literal does not depend on `standard_conforming_strings`, which a guest may have
/// changed.
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
