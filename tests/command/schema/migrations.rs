//! Reports, lists and plans of migrations.

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use pglock_sandbox::Sandbox;

use super::document::Document;
use super::waits::over_tcp;
use crate::command::{Folder, named};
use crate::support::Database;

const ONCE: [&str; 8] = [
    "migrate",
    "--grace",
    "50ms",
    "--lock-timeout",
    "400ms",
    "--attempts",
    "1",
    "--audit",
];

const PREPARE: &str = "BEGIN; LOCK TABLE users IN ROW SHARE MODE; PREPARE TRANSACTION 'order 9'";

/// Returns a folder with a migration.
fn folder(up: &str) -> Folder {
    with(Folder::new(), "01", up)
}

fn with(folder: Folder, day: &str, up: &str) -> Folder {
    let path = format!("migrations/2026-01-{day}-000000_step");
    let metadata = format!("run_in_transaction = {}\n", !up.contains("CONCURRENTLY"));
    folder
        .with(&format!("{path}/up.sql"), up)
        .with(&format!("{path}/down.sql"), "SELECT 1")
        .with(&format!("{path}/metadata.toml"), &metadata)
}

fn holding(database: &Database, name: &str) -> PgConnection {
    let mut holder = named(database, name);
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    holder
}

pub fn check(server: &Sandbox, document: &mut Document) {
    let database = over_tcp(server);
    document.check_run("migrate", &database, &["migrate", "install"]);
    check_blocked(&database, document);
    check_unfinished(&database, document);
    check_denied(&database, document);
    check_lists(server, document);
    check_plan(server, document);
}

/// A run that meets a victim, a spared session and a prepared transaction.
fn check_blocked(database: &Database, document: &mut Document) {
    database.running(PREPARE);
    let _sessions = ["victim", "spared"].map(|name| holding(database, name));
    let folder = folder("ALTER TABLE users ADD COLUMN age int");
    let args = [&ONCE[..], &["--spare", "activity.application=spared"]].concat();
    document.check_run_in("migrate", &folder, database, &args);
    database.running("ROLLBACK PREPARED 'order 9'");
    document.check_run("log", database, &["log"]);
}

/// Runs that leave an invalid index, and that are not tried again.
fn check_unfinished(database: &Database, document: &mut Document) {
    let twice = "CREATE UNIQUE INDEX CONCURRENTLY ON users ((1))";
    document.check_run_in("migrate", &folder(twice), database, &["migrate"]);
    let _holder = database.running("BEGIN; LOCK TABLE posts");
    let half = folder("SELECT 1; COMMIT; BEGIN; LOCK TABLE posts");
    let args = ["migrate", "--observe", "--lock-timeout", "100ms"];
    document.check_run_in("migrate", &half, database, &args);
}

/// A run whose role may not signal.
fn check_denied(database: &Database, document: &mut Document) {
    let role = format!("{}_migrator", database.name);
    database.running(&format!(
        "CREATE ROLE {role}; GRANT ALL ON SCHEMA public TO {role};
         ALTER TABLE posts OWNER TO {role}; DROP TABLE IF EXISTS __diesel_schema_migrations"
    ));
    let _holder = database.running("BEGIN; LOCK TABLE posts");
    let folder = folder("ALTER TABLE posts ADD COLUMN i int");
    let url = format!("{}?options=-crole%3D{role}", database.url);
    let database = Database::in_place(url, &database.name);
    document.check_run_in("migrate", &folder, &database, &ONCE[..7]);
}

fn check_lists(server: &Sandbox, document: &mut Document) {
    let database = Database::on(server);
    let folder = folder("ALTER TABLE users ADD COLUMN age int");
    for action in ["pending", "run", "status", "list", "revert"] {
        let name = match action {
            "run" | "revert" => "migrate",
            _ => "migrate_list",
        };
        document.check_run_in(name, &folder, &database, &["migrate", action]);
    }
}

fn check_plan(server: &Sandbox, document: &mut Document) {
    let database = Database::on(server);
    database.running("DROP TABLE users, posts");
    let tables = "CREATE TABLE users (id int PRIMARY KEY)";
    let applied = with(folder(tables), "02", "SELECT 1");
    document.check_run_in("migrate", &applied, &database, &["migrate"]);
    database.running("INSERT INTO users SELECT generate_series(1, 10); ANALYZE users");
    let _holder = holding(&database, "holder");
    let planned = with(applied, "02", "SELECT nothing");
    let change = "ALTER TABLE users ALTER COLUMN id TYPE bigint; CREATE INDEX ON users (id)";
    let planned = with(with(planned, "03", change), "04", "SELECT nothing");
    let deny = ["--deny", "rewrite", "--lock-first", "users"];
    let args = [&["migrate", "plan", "--scratch-here"][..], &deny].concat();
    document.check_run_in("migrate_plan", &planned, &database, &args);
}
