//! Whether a migration only adds. An earlier version that still runs must find everything as it knows it, so
//! nothing may be taken away, renamed, rewritten or restricted under it: "expand and contract",
//! <https://martinfowler.com/bliki/ParallelChange.html>. Judged by the words of each statement, strictly:
//! what is not known to only add counts as contracting. What it makes itself, a migration may restrict.

/// The beginning of the first statement that does not only add.
pub(super) fn contracting(sql: &str) -> Option<String> {
    let mut made = Vec::new();
    statements(sql).into_iter().find(|words| !only_adds(words, &mut made)).map(|words| {
        let shown: Vec<&str> = words.iter().take(8).map(String::as_str).collect();
        let more = if words.len() > shown.len() { " …" } else { "" };
        format!("{}{more}", shown.join(" "))
    })
}

/// Kinds of things of which one more disturbs nobody.
const MADE: [&str; 9] =
    ["AGGREGATE", "DOMAIN", "EXTENSION", "FUNCTION", "PROCEDURE", "SCHEMA", "SEQUENCE", "STATISTICS", "TYPE"];

/// `made` are the tables of this migration, as far as it is read.
fn only_adds(words: &[String], made: &mut Vec<String>) -> bool {
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !["IF", "NOT", "EXISTS"].contains(word)).collect();
    let is_made = |table: &str| made.iter().any(|name| name == table);
    let on_made = || words.windows(2).any(|pair| pair[0] == "ON" && is_made(pair[1]));
    match words.as_slice() {
        [] | ["GRANT" | "COMMENT" | "ANALYZE" | "SET", ..] => true,
        ["INSERT", "INTO", table, rest @ ..] => is_made(table) || !rest.contains(&"UPDATE"),
        ["CREATE", "TABLE" | "VIEW", name, ..] | ["CREATE", "MATERIALIZED", "VIEW", name, ..] => {
            made.push((*name).to_owned());
            true
        }
        ["CREATE", "INDEX", ..] => true,
        ["CREATE", kind, ..] if MADE.contains(kind) => true,
        ["CREATE", "UNIQUE", "INDEX", ..] | ["CREATE", "TRIGGER" | "RULE" | "POLICY", ..] => on_made(),
        ["ALTER", "TABLE", table, ..] if is_made(table) => true,
        ["ALTER", "TABLE", _, actions @ ..] => actions.split(|word| *word == ",").all(action_only_adds),
        _ => false,
    }
}

/// One action of ALTER TABLE, without what stands in brackets.
fn action_only_adds(words: &[&str]) -> bool {
    match words {
        ["ADD", rest @ ..] => column_only_adds(rest.strip_prefix(&["COLUMN"]).unwrap_or(rest)),
        ["ALTER", rest @ ..] => {
            let change = rest.strip_prefix(&["COLUMN"]).unwrap_or(rest).get(1..).unwrap_or_default();
            matches!(
                change,
                ["DROP", "NULL"] | ["SET", "DEFAULT" | "STATISTICS" | "STORAGE" | "COMPRESSION", ..]
            )
        }
        ["SET"] => true,
        _ => false,
    }
}

/// What follows ADD COLUMN. Old rows, and those that an earlier version writes, must fit.
fn column_only_adds(words: &[&str]) -> bool {
    const RESTRICTS: [&str; 8] =
        ["CHECK", "CONSTRAINT", "EXCLUDE", "FOREIGN", "PRIMARY", "REFERENCES", "UNIQUE", "VALIDATE"];
    let fills_itself = words.contains(&"DEFAULT") || words.contains(&"GENERATED");
    !words.iter().any(|word| RESTRICTS.contains(word)) && (fills_itself || !words.contains(&"NULL"))
}

/// The words of each statement in upper case: without comments, texts and what stands in brackets. A quoted
/// name is `"…"`, a text `'…'`.
fn statements(sql: &str) -> Vec<Vec<String>> {
    let mut statements = vec![Vec::new()];
    let mut depth = 0_usize;
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (length, word) = token(rest, first);
        rest = rest.get(length..).unwrap_or_default();
        match (first, depth) {
            ('(', _) => depth += 1,
            (')', _) => depth = depth.saturating_sub(1),
            (';', 0) => statements.push(Vec::new()),
            (_, 0) => statements.last_mut().into_iter().for_each(|words| words.extend(word.clone())),
            _ => {}
        }
    }
    statements
}

/// The length of the token at the start of `rest`, and the word that it is.
fn token(rest: &str, first: char) -> (usize, Option<String>) {
    let until = |end: &str, from: usize| {
        rest.get(from..).and_then(|tail| tail.find(end)).map(|at| from + at + end.len())
    };
    let quoted = |end: &str, shown: &str| (until(end, 1).unwrap_or(rest.len()), Some(shown.to_owned()));
    match first {
        '-' if rest.starts_with("--") => (until("\n", 2).unwrap_or(rest.len()), None),
        '/' if rest.starts_with("/*") => (until("*/", 2).unwrap_or(rest.len()), None),
        '\'' => quoted("'", "'…'"),
        'E' | 'e' if rest.get(1..).is_some_and(|text| text.starts_with('\'')) => {
            (escaped(rest), Some("'…'".to_owned()))
        }
        '"' => {
            let length = until("\"", 1).unwrap_or(rest.len());
            (length, rest.get(..length).map(str::to_owned))
        }
        '$' => match until("$", 1).and_then(|tag| until(rest.get(..tag)?, tag)) {
            Some(end) => (end, Some("'…'".to_owned())),
            None => (1, None),
        },
        ',' => (1, Some(",".to_owned())),
        _ if first.is_alphanumeric() || first == '_' => {
            let in_word = |c: char| c.is_alphanumeric() || ['_', '.', '$'].contains(&c);
            let length = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
            (length, rest.get(..length).map(str::to_uppercase))
        }
        _ => (first.len_utf8(), None),
    }
}

/// The length of a text `E'…'`, in which a backslash takes its meaning from the next character.
fn escaped(rest: &str) -> usize {
    let mut is_taken = false;
    let end = rest.char_indices().skip(2).find(|(_, c)| {
        let ends = !is_taken && *c == '\'';
        is_taken = !is_taken && *c == '\\';
        ends
    });
    end.map_or(rest.len(), |(at, quote)| at + quote.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::contracting;

    #[test]
    fn what_an_earlier_version_may_use_stays() {
        for adds in [
            "",
            "-- DROP TABLE stock;\nCREATE TABLE note (id bigint PRIMARY KEY, text text NOT NULL);",
            "ALTER TABLE stock ADD COLUMN note text, ADD COLUMN kind text NOT NULL DEFAULT 'a, b; DROP'",
            "alter table if not exists stock add if not exists note text, set (fillfactor = 70)",
            "ALTER TABLE stock ALTER COLUMN note DROP NOT NULL; ALTER TABLE stock ALTER note SET DEFAULT 'x'",
            "/* TRUNCATE */ CREATE INDEX stock_note ON stock (note)",
            "CREATE TABLE a (b int); CREATE UNIQUE INDEX a_b ON a (b); ALTER TABLE a ADD UNIQUE (b), ALTER b SET NOT NULL",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $x$ BEGIN DELETE FROM stock; RETURN 1; END $x$;",
            "INSERT INTO kind VALUES ('it''s'), ('; DROP TABLE stock') ON CONFLICT DO NOTHING",
            r"INSERT INTO kind VALUES (E'\'); DROP TABLE stock; --')",
            "CREATE TABLE line (stock bigint REFERENCES stock ON DELETE CASCADE)",
        ] {
            assert_eq!(contracting(adds), None, "{adds}");
        }
        for (contracts, shown) in [
            ("DROP TABLE stock", "DROP TABLE STOCK"),
            ("CREATE TABLE a (); alter table stock drop column note;", "ALTER TABLE STOCK DROP COLUMN NOTE"),
            ("ALTER TABLE stock RENAME note TO remark", "ALTER TABLE STOCK RENAME NOTE TO REMARK"),
            ("ALTER TABLE stock ALTER note TYPE int", "ALTER TABLE STOCK ALTER NOTE TYPE INT"),
            ("ALTER TABLE stock ALTER note SET NOT NULL", "ALTER TABLE STOCK ALTER NOTE SET NOT NULL"),
            ("ALTER TABLE stock ALTER note DROP DEFAULT", "ALTER TABLE STOCK ALTER NOTE DROP DEFAULT"),
            ("ALTER TABLE stock ADD CHECK (note <> '')", "ALTER TABLE STOCK ADD CHECK"),
            ("ALTER TABLE stock ADD note text UNIQUE", "ALTER TABLE STOCK ADD NOTE TEXT UNIQUE"),
            ("ALTER TABLE stock DISABLE TRIGGER ALL", "ALTER TABLE STOCK DISABLE TRIGGER ALL"),
            ("CREATE UNIQUE INDEX one ON stock (note)", "CREATE UNIQUE INDEX ONE ON STOCK"),
            (
                "CREATE TRIGGER t BEFORE INSERT ON stock EXECUTE FUNCTION f()",
                "CREATE TRIGGER T BEFORE INSERT ON STOCK EXECUTE …",
            ),
            ("DROP INDEX stock_old", "DROP INDEX STOCK_OLD"),
            (
                "INSERT INTO stock VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 0",
                "INSERT INTO STOCK VALUES ON CONFLICT DO UPDATE …",
            ),
            ("SELECT f()", "SELECT F"),
            (r"COMMENT ON TABLE stock IS E'\''; DROP TABLE stock --'", "DROP TABLE STOCK"),
            ("ALTER TABLE stock ADD note text NOT NULL", "ALTER TABLE STOCK ADD NOTE TEXT NOT NULL"),
            ("UPDATE stock SET note = ''", "UPDATE STOCK SET NOTE '…'"),
            ("WITH gone AS (DELETE FROM stock) SELECT 1", "WITH GONE AS SELECT 1"),
            ("DO $$ BEGIN DROP TABLE stock; END $$", "DO '…'"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW V AS SELECT 1"),
            ("TRUNCATE \"stock\"", "TRUNCATE \"stock\""),
            ("CREATE TABLE \"a\" (); ALTER TABLE \"b\" ADD UNIQUE (c)", "ALTER TABLE \"b\" ADD UNIQUE"),
        ] {
            assert_eq!(contracting(contracts).as_deref(), Some(shown), "{contracts}");
        }
    }
}
