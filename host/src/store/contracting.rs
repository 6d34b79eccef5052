//! Whether a migration only adds. An earlier version that still runs must find everything as it knows it, so nothing may be
//! taken away, renamed or rewritten under it: "expand and contract",
//! <https://martinfowler.com/bliki/ParallelChange.html>. Judged by the words of each statement, strictly: what is not
//! known to only add counts as contracting.

/// The beginning of the first statement that does not only add.
pub(super) fn contracting(sql: &str) -> Option<String> {
    statements(sql).into_iter().find(|words| !only_adds(words)).map(|words| {
        let shown: Vec<&str> = words.iter().take(8).map(String::as_str).collect();
        let more = if words.len() > shown.len() { " …" } else { "" };
        format!("{}{more}", shown.join(" "))
    })
}

fn only_adds(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["INSERT" | "GRANT" | "COMMENT" | "ANALYZE" | "SET" | "SELECT", ..] | ["DROP", "INDEX", ..] => true,
        ["CREATE", "OR", "REPLACE", ..] => false,
        ["CREATE", ..] => true,
        ["ALTER", "TABLE", actions @ ..] => actions.split(|word| *word == ",").all(action_only_adds),
        _ => false,
    }
}

/// One action of ALTER TABLE, its commas within brackets left out.
fn action_only_adds(words: &[&str]) -> bool {
    let has = |sought: &[&str]| words.windows(sought.len()).any(|part| part == sought);
    let fills_itself = has(&["DEFAULT"]) || has(&["GENERATED"]);
    let drops = words.windows(2).any(|pair| pair[0] == "DROP" && !["DEFAULT", "NOT"].contains(&pair[1]));
    let demands = has(&["NOT", "NULL"]) && !has(&["DROP", "NOT", "NULL"]) && !(has(&["ADD"]) && fills_itself);
    !drops && !demands && !has(&["RENAME"]) && !has(&["TYPE"]) && !has(&["SET", "SCHEMA"])
}

/// The words of each statement in upper case: without comments, texts and what stands in brackets. A quoted name is `"…"`,
/// a text `'…'`.
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
    let until =
        |end: &str, from: usize| rest.get(from..).and_then(|tail| tail.find(end)).map(|at| from + at + end.len());
    let quoted = |end: &str, shown: &str| (until(end, 1).unwrap_or(rest.len()), Some(shown.to_owned()));
    match first {
        '-' if rest.starts_with("--") => (until("\n", 2).unwrap_or(rest.len()), None),
        '/' if rest.starts_with("/*") => (until("*/", 2).unwrap_or(rest.len()), None),
        '\'' => quoted("'", "'…'"),
        '"' => quoted("\"", "\"…\""),
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

#[cfg(test)]
mod tests {
    use super::contracting;

    #[test]
    fn what_an_earlier_version_may_use_stays() {
        for adds in [
            "",
            "-- DROP TABLE stock;\nCREATE TABLE note (id bigint PRIMARY KEY, text text NOT NULL);",
            "ALTER TABLE stock ADD COLUMN note text, ADD COLUMN kind text NOT NULL DEFAULT 'a, b; DROP'",
            "ALTER TABLE stock ALTER COLUMN note DROP NOT NULL; ALTER TABLE stock ALTER note DROP DEFAULT",
            "/* TRUNCATE */ CREATE INDEX stock_note ON stock (note); DROP INDEX stock_old",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $x$ BEGIN DELETE FROM stock; RETURN 1; END $x$;",
            "INSERT INTO kind VALUES ('it''s'), ('; DROP TABLE stock')",
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
            ("ALTER TABLE stock ADD note text NOT NULL", "ALTER TABLE STOCK ADD NOTE TEXT NOT NULL"),
            ("UPDATE stock SET note = ''", "UPDATE STOCK SET NOTE '…'"),
            ("WITH gone AS (DELETE FROM stock) SELECT 1", "WITH GONE AS SELECT 1"),
            ("DO $$ BEGIN DROP TABLE stock; END $$", "DO '…'"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW V AS SELECT 1"),
            ("TRUNCATE \"stock\"", "TRUNCATE \"…\""),
        ] {
            assert_eq!(contracting(contracts).as_deref(), Some(shown), "{contracts}");
        }
    }
}
