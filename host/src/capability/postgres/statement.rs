//! Which statements a guest may run: the first word decides. Postgres itself prepares single statements only.

use super::error;
use crate::model::bindings::saga::plugin::postgres::SqlError;

const ALLOWED: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH"];

/// Allows statements that can neither end the transaction nor change the session.
pub(super) fn check(sql: &str) -> Result<(), SqlError> {
    if sql.contains('\0') {
        return Err(error::of_host(error::KIND, "a statement cannot contain NUL".to_owned()));
    }
    let word = first_word(sql);
    if ALLOWED.iter().any(|allowed| word.eq_ignore_ascii_case(allowed)) {
        return Ok(());
    }
    let found = if word.is_empty() { "nothing".to_owned() } else { word.to_uppercase() };
    Err(error::of_host(
        error::KIND,
        format!("a statement must start with {}; found {found}", ALLOWED.join(", ")),
    ))
}

/// The first word after white space, comments and opening parentheses; empty when there is none.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c', '(']);
        rest = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once(['\n', '\r']).map_or("", |(_, after)| after),
            (_, Some(comment)) => after_comment(comment),
            _ => break,
        };
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    &rest[..end]
}

/// The text after a block comment. Block comments nest; one that does not end hides the rest.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = rest.find(['/', '*']) else { return "" };
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        depth += change;
        rest = &rest[at + step..];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::{check, first_word};

    #[test]
    fn the_first_word_is_found_behind_comments() {
        for (sql, word) in [
            ("select 1", "select"),
            ("  \n\t((SELECT 1))", "SELECT"),
            ("-- a; drop\nUPDATE t SET a = 1", "UPDATE"),
            ("--\rselect 1", "select"),
            ("/* a /* nested */ still */ insert into t values (1)", "insert"),
            ("/*/ */ select 1", "select"),
            ("/**/select 1", "select"),
            ("/* open select 1", ""),
            ("-- only a comment", ""),
            ("", ""),
            ("select_into", "select_into"),
            ("values(1)", "values"),
            ("with\u{a0}x", "with"),
            (";select 1", ""),
            ("é", "é"),
        ] {
            assert_eq!(first_word(sql), word, "{sql:?}");
        }
    }

    #[test]
    fn only_statements_that_read_or_write_rows() {
        for sql in [
            "SELECT 1",
            "insert into t",
            "Update t",
            "delete from t",
            "merge into t",
            "values (1)",
            "with a as",
        ] {
            assert!(check(sql).is_ok(), "{sql}");
        }
        for sql in [
            "COMMIT",
            "begin",
            "set role x",
            "copy t to stdout",
            "do $$ $$",
            "call p()",
            "table t",
            "explain select 1",
            "prepare a as select 1",
            "execute a",
            "savepoint a",
            "",
            "select 1\0",
        ] {
            let sqlstate = check(sql).err().map(|e| e.sqlstate);
            assert_eq!(sqlstate.as_deref(), Some("SG003"), "{sql}");
        }
    }
}
