//! Statements that reach beyond their database: a scratch database does not contain them.

use std::any::Any;

use diesel::QueryResult;
use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::{MigrationSource, Result};
use diesel::pg::Pg;

use crate::fmt::single_line_query;
use crate::migrate::sql_splitter::{Lexer, TokenKind, Words, split};

/// Describes the first statement of SQL migrations that reaches beyond its database.
///
/// The strings of statements that may run them are searched too, such as the body of a `DO`. A
/// statement that is put together from parts is not found.
pub fn cluster_wide_statement(source: &impl MigrationSource<Pg>) -> Result<Option<String>> {
    let mut migrations = source.migrations()?;
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    for migration in migrations {
        let mut recorder = TextRecorder::default();
        // A file that cannot be read fails again when it is planned.
        let _ = migration.run(&mut recorder);
        if let Some(found) = recorder.0.iter().find_map(|text| cluster_wide(text)) {
            return Ok(Some(format!("{}, {found}", migration.name())));
        }
    }
    Ok(None)
}

/// Keeps the texts of a migration, and runs none.
#[derive(Default)]
struct TextRecorder(Vec<String>);

impl SimpleConnection for TextRecorder {
    fn batch_execute(&mut self, sql: &str) -> QueryResult<()> {
        self.0.push(sql.to_owned());
        Ok(())
    }
}

impl BoxableConnection<Pg> for TextRecorder {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn cluster_wide(text: &str) -> Option<String> {
    let describe = |line: usize, sql: &str, what: &str| {
        format!("line {line}: `{}` ({what})", single_line_query(sql, 100))
    };
    let Ok(statements) = split(text, true) else {
        let what = reach(&Words::within(text))?;
        return Some(describe(1, text, what));
    };
    let found = statements
        .iter()
        .find_map(|it| Some((it, reach_of(it.text)?)));
    found.map(|(statement, what)| describe(statement.line, statement.text, what))
}

/// Returns what a statement reaches beyond its database.
fn reach_of(sql: &str) -> Option<&'static str> {
    let words = Words::of(sql);
    let found = reach(&words);
    if found.is_some() || !may_run_strings(&words) {
        return found;
    }
    let strings = Lexer::new(sql, true).map_while(std::result::Result::ok);
    let strings = strings.filter(|token| token.kind == TokenKind::String);
    let contents: Vec<&str> = strings.filter_map(|token| token.content()).collect();
    let statements = contents.iter().flat_map(|content| content.split(';'));
    statements
        .into_iter()
        .find_map(|it| reach(&Words::within(it)))
}

fn may_run_strings(words: &Words) -> bool {
    match words.first() {
        "create" => words.has(&["function", "procedure"]),
        first => ["do", "select", "with", "call", "execute", "prepare"].contains(&first),
    }
}

fn reach(words: &Words) -> Option<&'static str> {
    let change = &["create", "alter", "drop"][..];
    let changes = |objects: &[&str]| {
        words.has_sequence(&[change, objects])
            || words.has_sequence(&[&["comment"], &["on"], objects])
    };
    // A user mapping belongs to the database.
    let is_mapping = words.has_sequence(&[&["user"], &["mapping"]]);
    let functions = || !words.has_sequence(&[&["create"], &["extension"]]);
    if changes(&["role", "group"]) || (changes(&["user"]) && !is_mapping) {
        Some("roles")
    } else if changes(&["database"]) {
        Some("databases")
    } else if changes(&["tablespace"]) {
        Some("tablespaces")
    } else if changes(&["subscription"]) {
        Some("subscriptions")
    } else if changes(&["server"]) {
        Some("foreign servers")
    } else if words.has_sequence(&[&["alter"], &["system"]]) {
        Some("settings of the server")
    } else if words.has_sequence(&[&["reassign", "drop"], &["owned"]]) {
        Some("all databases")
    } else if words.has_sequence(&[&["prepare"], &["transaction"]]) {
        Some("prepared transactions")
    } else if words.has_sequence(&[&["to", "from"], &["program"]]) {
        Some("programs")
    } else if words.first() == "copy" && writes_file(words) {
        Some("files of the server")
    } else if grants_beyond(words) {
        Some("roles and their rights")
    } else if functions() && words.has(FUNCTIONS) {
        Some("a function of the server")
    } else {
        None
    }
}

/// Returns true for a `COPY` to a file, whose name is no word.
fn writes_file(words: &Words) -> bool {
    words.has(&["to"]) && !words.has(&["from", "stdout"])
}

/// Functions that reach other sessions, other databases or the server.
const FUNCTIONS: &[&str] = &[
    "pg_create_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_copy_logical_replication_slot",
    "pg_drop_replication_slot",
    "pg_replication_origin_create",
    "pg_replication_origin_drop",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_promote",
    "dblink",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_exec",
    "dblink_send_query",
];

/// Returns true for a grant of a role, or on a database, a tablespace or a setting.
fn grants_beyond(words: &Words) -> bool {
    let Some(grant) = words.from(&["grant", "revoke"]) else {
        return false;
    };
    let objects = &["database", "tablespace", "parameter", "role"][..];
    // `ALTER DEFAULT PRIVILEGES … GRANT SELECT ON TABLES TO …` has an `ON` too.
    let is_of_role = !grant.has(&["on"]) && grant.has(&["to", "from"]);
    let on_table = grant.has_sequence(&[&["on"], objects, &["to", "from"]]);
    is_of_role || (grant.has_sequence(&[&["on"], objects]) && !on_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_reach_beyond_their_database_are_found() {
        for (sql, what) in [
            ("CREATE ROLE app", "roles"),
            ("SELECT 1;\nalter /* x */ user app password 'x'", "roles"),
            (
                "DO $$ BEGIN IF true THEN CREATE ROLE app; END IF; END $$",
                "roles",
            ),
            (
                "DO $$ BEGIN EXECUTE 'CREATE ROLE ' || 'app'; END $$",
                "roles",
            ),
            ("SELECT run('drop user x')", "roles"),
            ("COMMENT ON ROLE app IS 'x'", "roles"),
            ("ALTER DATABASE shop SET work_mem = '1GB'", "databases"),
            ("CREATE TABLESPACE fast LOCATION '/fast'", "tablespaces"),
            ("DROP SUBSCRIPTION s", "subscriptions"),
            (
                "CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw",
                "foreign servers",
            ),
            (
                "ALTER SYSTEM SET work_mem = '1GB'",
                "settings of the server",
            ),
            ("DROP OWNED BY app", "all databases"),
            ("PREPARE TRANSACTION 'x'", "prepared transactions"),
            ("COPY t TO PROGRAM 'rm'", "programs"),
            ("COPY t TO '/tmp/t'", "files of the server"),
            ("GRANT app TO web", "roles and their rights"),
            (
                "GRANT CONNECT ON DATABASE shop TO web",
                "roles and their rights",
            ),
            ("SELECT pg_terminate_backend(1)", "a function of the server"),
            ("SELECT 1; CREATE ROLE app; SELECT 'not closed", "roles"),
        ] {
            let found = cluster_wide(sql).unwrap_or_else(|| panic!("{sql}"));
            assert!(found.contains(&format!("({what})")), "{sql}: {found}");
        }
        assert!(
            cluster_wide("\nDROP ROLE a")
                .unwrap()
                .starts_with("line 2: ")
        );
    }

    #[test]
    fn statements_of_one_database_are_not_taken_for_others() {
        for sql in [
            "CREATE TABLE role (name text DEFAULT 'create role'); CREATE INDEX ON role (name)",
            "GRANT SELECT ON role TO web; GRANT ALL ON ALL TABLES IN SCHEMA public TO web",
            "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA public GRANT SELECT ON TABLES TO web",
            "INSERT INTO permissions VALUES ('create user'), ('drop role')",
            "ALTER TABLE users OWNER TO app; SET ROLE app; CREATE EXTENSION dblink",
            "CREATE USER MAPPING FOR app SERVER s; COMMENT ON TABLE users IS 'create role x'",
            "-- CREATE ROLE app\nSELECT 1",
            "COPY t FROM '/tmp/t'; PREPARE x AS SELECT 1; CREATE SUBSCRIPTIONS",
        ] {
            assert_eq!(cluster_wide(sql), None, "{sql}");
        }
    }
}
