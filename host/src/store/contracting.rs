//! Decides whether a migration only adds. Earlier versions that still run must find everything as they know
//! it, so a migration may not remove, rename, rewrite or restrict anything under them: "expand and contract",
//! <https://martinfowler.com/bliki/ParallelChange.html>. The judgement is strict: a statement that is not
//! known to only add, or that sqlparser cannot parse, counts as contracting. A migration may restrict a table
//! that it creates itself.

use sqlparser::{
    ast::{
        AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, CreateTable,
        CreateView, Insert, ObjectName, OnConflictAction, OnInsert, Query, SetExpr, Statement, TableObject,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

/// Characters of a statement in the answer.
const SHOWN_CHARS_MAX: usize = 100;

/// The first statement that does not only add, as an error message shows it.
pub(super) fn contracting(sql: &str) -> Option<String> {
    let dialect = PostgreSqlDialect {};
    let tokens = match Tokenizer::new(&dialect, sql).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => return Some(format!("text that cannot be read as SQL: {error}")),
    };
    let mut created = Vec::new();
    tokens.split(|token| token.token == Token::SemiColon).find_map(|tokens| {
        let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_) | Token::EOF);
        if tokens.iter().all(is_blank) {
            return None;
        }
        match parse(&dialect, tokens) {
            Some(statement) => (!only_adds(&statement, &mut created)).then(|| shown(&statement.to_string())),
            None => Some(format!("{}; saga-host cannot parse it", shown(&text(tokens)))),
        }
    })
}

fn parse(dialect: &PostgreSqlDialect, tokens: &[TokenWithSpan]) -> Option<Statement> {
    let mut parser = Parser::new(dialect).with_tokens_with_locations(tokens.to_vec());
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(statement)
}

/// The statement without its comments.
fn text(tokens: &[TokenWithSpan]) -> String {
    tokens
        .iter()
        .map(|token| match &token.token {
            Token::Whitespace(_) => " ".to_owned(),
            Token::EOF => String::new(),
            token => token.to_string(),
        })
        .collect()
}

/// One line of limited length.
fn shown(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// `created` are the tables and views that this migration has created so far.
fn only_adds(statement: &Statement, created: &mut Vec<String>) -> bool {
    let is_created = |name: &ObjectName| created.contains(&normalized(name));
    match statement {
        Statement::Grant(_) | Statement::Comment { .. } | Statement::Analyze(_) | Statement::Set(_) => true,
        Statement::CreateDomain(_)
        | Statement::CreateExtension(_)
        | Statement::CreateSchema { .. }
        | Statement::CreateSequence { .. }
        | Statement::CreateType { .. } => true,
        Statement::CreateFunction(function) => !function.or_replace,
        Statement::CreateProcedure { or_alter, .. } => !or_alter,
        Statement::CreateAggregate(aggregate) => !aggregate.or_replace,
        Statement::CreateTable(CreateTable { name, if_not_exists, or_replace: false, query, .. }) => {
            note_created(name, *if_not_exists, created);
            query.as_deref().is_none_or(reads)
        }
        Statement::CreateView(CreateView { name, if_not_exists, or_replace: false, .. }) => {
            note_created(name, *if_not_exists, created);
            true
        }
        Statement::CreateIndex(index) => !index.unique || is_created(&index.table_name),
        Statement::CreateTrigger(trigger) => !trigger.or_replace && is_created(&trigger.table_name),
        Statement::CreatePolicy(policy) => is_created(&policy.table_name),
        Statement::AlterTable(AlterTable { name, operations, .. }) => {
            is_created(name) || operations.iter().all(operation_only_adds)
        }
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) if is_created(name) => !changes_rows_elsewhere(insert),
            _ => !changes_rows_elsewhere(insert) && !updates_on_conflict(insert),
        },
        _ => false,
    }
}

/// With IF NOT EXISTS the table may be that of an earlier version.
fn note_created(name: &ObjectName, if_not_exists: bool, created: &mut Vec<String>) {
    if !if_not_exists {
        created.push(normalized(name));
    }
}

/// Unquoted names fold to lower case.
fn normalized(name: &ObjectName) -> String {
    let parts = name.0.iter().map(|part| match part.as_ident() {
        Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
        Some(ident) => ident.value.to_lowercase(),
        None => part.to_string(),
    });
    parts.collect::<Vec<_>>().join(".")
}

fn operation_only_adds(operation: &AlterTableOperation) -> bool {
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => column_only_adds(column_def),
        AlterTableOperation::AlterColumn { op, .. } => {
            matches!(op, AlterColumnOperation::DropNotNull | AlterColumnOperation::SetDefault { .. })
        }
        AlterTableOperation::SetOptionsParens { .. } => true,
        _ => false,
    }
}

/// The rows that are there, and those that an earlier version writes, must fit a new column.
fn column_only_adds(column: &ColumnDef) -> bool {
    let mut options = column.options.iter().map(|option| &option.option);
    let fills_itself = options.clone().any(|option| {
        matches!(
            option,
            ColumnOption::Default(_) | ColumnOption::Generated { .. } | ColumnOption::Identity(_)
        )
    });
    options.all(|option| match option {
        ColumnOption::Null
        | ColumnOption::Default(_)
        | ColumnOption::Generated { .. }
        | ColumnOption::Identity(_)
        | ColumnOption::Collation(_) => true,
        ColumnOption::NotNull => fills_itself,
        _ => false,
    })
}

fn updates_on_conflict(insert: &Insert) -> bool {
    match &insert.on {
        None => false,
        Some(OnInsert::OnConflict(conflict)) => conflict.action != OnConflictAction::DoNothing,
        Some(_) => true,
    }
}

/// `INSERT INTO a WITH gone AS (DELETE FROM b …) SELECT …`
fn changes_rows_elsewhere(insert: &Insert) -> bool {
    let with = insert.source.as_deref().and_then(|source| source.with.as_ref());
    with.is_some_and(|with| with.cte_tables.iter().any(|cte| !reads(&cte.query)))
}

fn reads(query: &Query) -> bool {
    let with_reads = query.with.iter().flat_map(|with| &with.cte_tables).all(|cte| reads(&cte.query));
    with_reads
        && !matches!(
            &*query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        )
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
            "alter table if exists stock add if not exists note text;
             alter table stock set (fillfactor = 70)",
            "ALTER TABLE stock ALTER COLUMN note DROP NOT NULL; ALTER TABLE stock ALTER note SET DEFAULT 'x'",
            "/* TRUNCATE */ CREATE INDEX stock_note ON stock (note)",
            "/* one /* DROP TABLE stock; */ comment; */ CREATE INDEX stock_note ON stock (note)",
            "CREATE TABLE a (b int); CREATE UNIQUE INDEX a_b ON a (b);
             ALTER TABLE a ADD UNIQUE (b), ALTER b SET NOT NULL",
            "CREATE TABLE \"a\" (b int); ALTER TABLE A ADD UNIQUE (b)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql
             AS $x$ BEGIN DELETE FROM stock; RETURN 1; END $x$;",
            "CREATE TABLE a (b int); CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
            "INSERT INTO kind VALUES ('it''s'), ('; DROP TABLE stock') ON CONFLICT DO NOTHING",
            "CREATE TABLE a (b int); INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET b = 0",
            r"INSERT INTO kind VALUES (E'\'); DROP TABLE stock; --')",
            "CREATE TABLE line (stock bigint REFERENCES stock ON DELETE CASCADE)",
            "INSERT INTO kind VALUES ($q$ it's; DROP TABLE stock; $$ $q$)",
            "COMMENT ON TABLE stock IS 'what is left; DROP TABLE stock'",
            "CREATE TYPE kind AS ENUM ('a'); CREATE SEQUENCE s; CREATE EXTENSION e;
             GRANT SELECT ON stock TO r",
            "ALTER TABLE stock ADD id2 bigint GENERATED ALWAYS AS IDENTITY NOT NULL",
        ] {
            assert_eq!(contracting(adds), None, "{adds}");
        }
    }

    #[test]
    fn what_does_not_only_add_is_named() {
        for (contracts, shown) in [
            ("DROP TABLE stock", "DROP TABLE stock"),
            ("CREATE TABLE a (); alter table stock drop column note;", "ALTER TABLE stock DROP COLUMN note"),
            ("CREATE TABLE a (); -- it's\nDROP TABLE stock", "DROP TABLE stock"),
            (
                "CREATE TABLE a AS WITH gone AS (DELETE FROM stock RETURNING *) SELECT * FROM gone",
                "CREATE TABLE a AS WITH gone AS (DELETE FROM stock RETURNING *) SELECT * FROM gone",
            ),
            ("ALTER TABLE stock RENAME note TO remark", "ALTER TABLE stock RENAME COLUMN note TO remark"),
            ("ALTER TABLE stock ALTER note TYPE int", "ALTER TABLE stock ALTER COLUMN note TYPE INT"),
            ("ALTER TABLE stock ALTER note SET NOT NULL", "ALTER TABLE stock ALTER COLUMN note SET NOT NULL"),
            ("ALTER TABLE stock ALTER note DROP DEFAULT", "ALTER TABLE stock ALTER COLUMN note DROP DEFAULT"),
            ("ALTER TABLE stock ADD CHECK (note <> '')", "ALTER TABLE stock ADD CHECK (note <> '')"),
            ("ALTER TABLE stock ADD note text UNIQUE", "ALTER TABLE stock ADD note TEXT UNIQUE"),
            ("ALTER TABLE stock ADD note text NOT NULL", "ALTER TABLE stock ADD note TEXT NOT NULL"),
            ("ALTER TABLE stock DISABLE TRIGGER ALL", "ALTER TABLE stock DISABLE TRIGGER ALL"),
            ("CREATE UNIQUE INDEX one ON stock (note)", "CREATE UNIQUE INDEX one ON stock(note)"),
            (
                "CREATE TRIGGER t BEFORE INSERT ON stock EXECUTE FUNCTION f()",
                "CREATE TRIGGER t BEFORE INSERT ON stock EXECUTE FUNCTION f()",
            ),
            ("DROP INDEX stock_old", "DROP INDEX stock_old"),
            (
                "INSERT INTO stock VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 0",
                "INSERT INTO stock VALUES (1) ON CONFLICT(id) DO UPDATE SET n = 0",
            ),
            ("SELECT f()", "SELECT f()"),
            (r"COMMENT ON TABLE stock IS E'\''; DROP TABLE stock --'", "DROP TABLE stock"),
            ("UPDATE stock SET note = ''", "UPDATE stock SET note = ''"),
            ("WITH gone AS (DELETE FROM stock) SELECT 1", "WITH gone AS (DELETE FROM stock) SELECT 1"),
            (
                "INSERT INTO kind WITH gone AS (DELETE FROM stock RETURNING id) SELECT id FROM gone",
                "INSERT INTO kind WITH gone AS (DELETE FROM stock RETURNING id) SELECT id FROM gone",
            ),
            (
                "CREATE TABLE IF NOT EXISTS stock (); ALTER TABLE stock DROP note",
                "ALTER TABLE stock DROP note",
            ),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 1"),
            ("TRUNCATE \"stock\"", "TRUNCATE \"stock\""),
            ("CREATE TABLE \"A\" (); ALTER TABLE a ADD UNIQUE (c)", "ALTER TABLE a ADD UNIQUE (c)"),
            (
                "DO $$ BEGIN DROP TABLE stock; END $$",
                "DO $$ BEGIN DROP TABLE stock; END $$; saga-host cannot parse it",
            ),
            (
                "ALTER TABLE stock SET /* soon */ FROBNICATED",
                "ALTER TABLE stock SET FROBNICATED; saga-host cannot parse it",
            ),
        ] {
            assert_eq!(contracting(contracts).as_deref(), Some(shown), "{contracts}");
        }
        let shown = contracting("CREATE TABLE a (); INSERT INTO a VALUES ('").unwrap_or_default();
        assert!(shown.starts_with("text that cannot be read as SQL: Unterminated string"), "{shown}");
        let long = contracting(&format!("UPDATE stock SET note = '{}'", "x".repeat(200))).unwrap_or_default();
        assert!(long.ends_with("xxx…") && long.chars().count() == 101, "{long}");
    }
}
