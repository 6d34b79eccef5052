//! SQL text for the simple query protocol, which takes several statements in one round trip but no
//! parameters. Arguments are literals: numbers as they are, texts quoted. An array is one literal, which
//! Postgres reads faster than a list of constants.

use std::fmt::Write;

use crate::store::quote_literal;

/// Statements, one after the other.
#[derive(Debug, Default)]
pub(super) struct SqlText(String);

/// A function call that is being written.
#[derive(Debug)]
pub(super) struct Call<'a> {
    sql: &'a mut String,
    separator: &'static str,
}

impl SqlText {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a whole statement.
    pub(super) fn statement(&mut self, statement: &str) {
        self.separate();
        self.0.push_str(statement);
    }

    /// Adds a function call; `select_function` is all that comes before its arguments, as in `SELECT * FROM
    /// saga.open`.
    pub(super) fn call(&mut self, select_function: &str, arguments: impl FnOnce(&mut Call<'_>)) {
        self.separate();
        self.0.push_str(select_function);
        self.0.push('(');
        arguments(&mut Call { sql: &mut self.0, separator: "" });
        self.0.push(')');
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
    }
}

impl Call<'_> {
    fn name(&mut self, name: &str) {
        let separator = std::mem::replace(&mut self.separator, ",");
        let _infallible = write!(self.sql, "{separator}{name}=>");
    }

    pub(super) fn null(&mut self, name: &str) {
        self.name(name);
        self.sql.push_str("NULL");
    }

    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) {
        self.name(name);
        let _infallible = write!(self.sql, "{}", number.into());
    }

    pub(super) fn numbers(&mut self, name: &str, numbers: impl Iterator<Item = i64>) {
        self.name(name);
        self.sql.push_str("'{");
        for (place, number) in numbers.enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let _infallible = write!(self.sql, "{comma}{number}");
        }
        self.sql.push_str("}'");
    }

    pub(super) fn texts<'text>(&mut self, name: &str, texts: impl Iterator<Item = &'text str>) {
        self.name(name);
        self.sql.push_str(&quote_literal(&array_literal(texts)));
    }
}

/// `{"first","second"}`
fn array_literal<'text>(texts: impl Iterator<Item = &'text str>) -> String {
    let mut array = String::from("{");
    for (place, text) in texts.enumerate() {
        array.push_str(if place > 0 { ",\"" } else { "\"" });
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                array.push('\\');
            }
            array.push(character);
        }
        array.push('"');
    }
    array.push('}');
    array
}

#[cfg(test)]
mod tests {
    use super::SqlText;

    #[test]
    fn arguments_are_named_and_quoted() {
        let mut sql = SqlText::default();
        sql.statement("BEGIN");
        sql.call("SELECT f", |call| {
            call.null("p_none");
            call.number("p_number", 7);
            call.numbers("p_numbers", [1, -2].into_iter());
            call.texts("p_texts", ["it's", r#"a\"b"#].into_iter());
        });
        assert_eq!(
            sql.into_string(),
            concat!(
                "BEGIN; SELECT f(p_none=>NULL,p_number=>7,p_numbers=>'{1,-2}',",
                r#"p_texts=>E'{"it''s","a\\\\\\"b"}')"#
            )
        );
    }
}
