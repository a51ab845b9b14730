//! `pglock migrate plan`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use diesel::connection::SimpleConnection;
use pglock_sandbox::Sandbox;
use serde_json::Value;

use super::page::normal;
use super::{Folder, Ran, named, ran};
use crate::support::{Database, count, pid, setting, wait_until};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text);";

/// A folder with a migration that makes a table, and others.
fn folder(pending: &[&str]) -> Folder {
    let folder = Folder::new().with("migrations/2026-01-01-000000_orders/up.sql", TABLES);
    let pending = pending.iter().enumerate();
    pending.fold(folder, |folder, (i, up)| {
        let path = format!("migrations/2026-01-0{}-000000_step", i + 2);
        let is_concurrent = up.contains("CONCURRENTLY");
        folder.with(&format!("{path}/up.sql"), up).with(
            &format!("{path}/metadata.toml"),
            &format!("run_in_transaction = {}\n", !is_concurrent),
        )
    })
}

/// A database in which the first migration is applied.
fn real() -> Database {
    let database = Database::new();
    database.running("DROP TABLE users, posts");
    let only_first = Folder::new().with("migrations/2026-01-01-000000_orders/up.sql", TABLES);
    assert_eq!(migrate(&only_first, &database, &[]).code, 0);
    database
}

fn migrate(folder: &Folder, database: &Database, args: &[&str]) -> Ran {
    let mut command = folder.command(&["migrate"]);
    ran(command.args(args).env("DATABASE_URL", &database.url))
}

/// Runs a plan, and fails unless its database was dropped.
#[track_caller]
fn plan_here(folder: &Folder, database: &Database, args: &[&str]) -> Ran {
    let mut command = folder.command(&["migrate", "plan", "--scratch-here"]);
    command.args(args).env("DATABASE_URL", &database.url);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let made = format!("pglock_scratch_{}_%", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(databases(database, &made), 0);
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn databases(database: &Database, pattern: &str) -> i64 {
    let query = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{pattern}'");
    count(&mut database.connect(), &query)
}

#[test]
fn a_plan_shows_locks_and_holders_and_its_database_is_dropped() {
    let folder = folder(&[
        "-- the age\nALTER TABLE orders ADD COLUMN age int;\nALTER TABLE orders ALTER COLUMN id TYPE bigint;",
        "CREATE INDEX CONCURRENTLY note ON orders (note)",
    ]);
    let database = real();
    let mut holder = named(&database, "console");
    holder.batch_execute("BEGIN; SELECT FROM orders").unwrap();
    let pid = pid(&mut holder);
    let plan = plan_here(&folder, &database, &[]);
    assert_eq!((plan.code, &*plan.err), (0, ""), "{plan:?}");
    let lines: Vec<&str> = plan.out.lines().collect();
    assert_eq!(lines[0], "2026-01-02-000000_step: in a transaction");
    assert_eq!(lines[1], "  line 2: ALTER TABLE orders ADD COLUMN age int");
    let lock = "    locks public.orders (16 kB) in ACCESS EXCLUSIVE mode, which blocks reads and writes; held by pid";
    assert!(
        lines[2].starts_with(&format!("{lock} {pid} (application `console`")),
        "{}",
        plan.out
    );
    assert_eq!(
        lines[3],
        "  line 3: ALTER TABLE orders ALTER COLUMN id TYPE bigint"
    );
    assert_eq!(lines[4], "    rewrites public.orders (16 kB)");
    assert_eq!(lines[5], "2026-01-03-000000_step: outside a transaction");
    assert!(
        lines[7].contains("SHARE UPDATE EXCLUSIVE mode, which blocks schema changes"),
        "{}",
        plan.out
    );
    assert_eq!(
        lines[8],
        "    builds the index public.note of public.orders (16 kB)"
    );
    assert!(lines[9].starts_with(&format!(
        "oldest transaction: pid {pid} (console), open for "
    )));
    assert_eq!(lines.len(), 10, "{}", plan.out);
    // It was a plan only.
    let pending = migrate(&folder, &database, &["pending"]);
    assert_eq!(pending.out.lines().count(), 2);
}

#[test]
fn the_page_shows_a_plan() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/command.md");
    let page = fs::read_to_string(path).unwrap();
    let (_, page) = page
        .split_once("plan --scratch-here --deny 'rewrite>10MB'")
        .unwrap();
    let (_, shown) = page.split_once("```text\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let database = Database::new();
    let rows = "DROP TABLE posts; INSERT INTO users (name) SELECT 'user ' || i FROM generate_series(1, 300000) i";
    database
        .running(rows)
        .batch_execute("ANALYZE users")
        .unwrap();
    let first = "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);";
    let folder = Folder::new().with("migrations/2026-01-01-000000_users/up.sql", first);
    let history = "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, \
        run_on timestamp NOT NULL DEFAULT now()); \
        INSERT INTO __diesel_schema_migrations VALUES ('20260101000000')";
    database.running(history);
    let folder = folder
        .with(
            "migrations/2026-01-31-120000_nickname/up.sql",
            "ALTER TABLE users ADD COLUMN nickname text;\n\
             ALTER TABLE users ALTER COLUMN id TYPE bigint;\nUPDATE users SET nickname = name",
        )
        .with(
            "migrations/2026-02-01-090000_name_index/up.sql",
            "CREATE INDEX CONCURRENTLY users_name ON users (name);",
        )
        .with(
            "migrations/2026-02-01-090000_name_index/metadata.toml",
            "run_in_transaction = false",
        );
    let mut console = named(&database, "console");
    console.batch_execute("BEGIN").unwrap();
    let update = "UPDATE users SET name = 'held' WHERE id = 1";
    console.batch_execute(update).unwrap();
    let plan = plan_here(&folder, &database, &["--deny", "rewrite>10MB"]);
    assert_eq!(plan.code, 7, "{plan:?}");
    let normal = |text: &str| -> Vec<String> { text.lines().map(normal).collect() };
    assert_eq!(normal(&plan.out), normal(shown));
}

#[test]
fn a_rule_denies_what_a_migration_would_do() {
    let folder = folder(&[
        "ALTER TABLE orders ALTER COLUMN id TYPE bigint; CREATE INDEX note ON orders (note)",
        "CREATE INDEX CONCURRENTLY second ON orders (note)",
    ]);
    let database = real();
    let rewrite = plan_here(&folder, &database, &["--deny", "rewrite,share>1GB"]);
    assert_eq!(rewrite.code, 7, "{rewrite:?}");
    let last = "denied by `rewrite`: 2026-01-02-000000_step, line 1, on public.orders (16 kB)";
    assert_eq!(rewrite.out.lines().last(), Some(last));

    let args = ["--deny", "access-exclusive>1GB", "--deny", "rewrite>1MB"];
    assert_eq!(plan_here(&folder, &database, &args).code, 0);
    let args = [
        "--deny",
        "access-exclusive>1kB",
        "--deny",
        "index",
        "--json",
    ];
    let json = plan_here(&folder, &database, &args);
    assert_eq!(json.code, 7, "{json:?}");
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let denied = json["denied"].as_array().unwrap();
    let rules: Vec<_> = denied
        .iter()
        .map(|it| it["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["access-exclusive>1kB", "index"], "{json}");
    let statement = &json["migrations"][0]["statements"][0];
    assert_eq!(statement["locks"][0]["mode"], "ACCESS EXCLUSIVE");
    assert_eq!(statement["rewrites"][0]["name"], "orders");
    assert_eq!(statement["rewrites"][0]["size"], 16384);
    assert_eq!(json["migrations"][1]["run_in_transaction"], false);
}

#[test]
fn a_migration_that_cannot_be_planned_has_its_own_exit_code() {
    let folder = folder(&["SELECT 1;\nCREATE EXTENSION nonsense"]);
    let database = real();
    let plan = plan_here(&folder, &database, &[]);
    assert_eq!(plan.code, 8, "{plan:?}");
    let failed = "  not planned: 2026-01-02-000000_step, line 2: CREATE EXTENSION nonsense: ";
    assert!(plan.out.contains(failed), "{}", plan.out);
    let plan = plan_here(&folder, &database, &["--json"]);
    let json: Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(json["migrations"][0]["not_planned"]["line"], 2);
}

#[test]
fn statements_for_the_whole_server_need_another_server() {
    let folder = folder(&["SELECT 1;\nDO $$ BEGIN CREATE ROLE pglock_planned; END $$"]);
    let database = real();
    let here = plan_here(&folder, &database, &[]);
    assert_eq!((here.code, &*here.out), (2, ""), "{here:?}");
    let statement = "2026-01-02-000000_step, line 2: `DO $$ BEGIN CREATE ROLE";
    assert!(here.err.contains(statement), "{}", here.err);

    let other = Sandbox::start().unwrap();
    let there = migrate(&folder, &database, &["plan", "--scratch", &other.url()]);
    assert_eq!(there.code, 0, "{there:?}");
    let again = migrate(&folder, &database, &["plan", "--scratch", &other.url()]);
    assert_eq!(again.code, 5);
    assert!(
        again
            .err
            .contains("a plan needs an empty database of its own"),
        "{}",
        again.err
    );
}

#[test]
fn the_real_database_is_refused_as_a_scratch_database() {
    let folder = folder(&["DROP TABLE orders"]);
    let database = real();
    let plan = migrate(&folder, &database, &["plan", "--scratch", &database.url]);
    assert_eq!(plan.code, 5, "{plan:?}");
    assert!(
        plan.err.contains("is the database that is planned for"),
        "{}",
        plan.err
    );
    let url = "postgres://app:hunter2@127.0.0.1:1/x";
    let plan = migrate(&folder, &database, &["plan", "--scratch", url]);
    assert_eq!(plan.code, 5, "{plan:?}");
    assert!(!plan.err.contains("hunter2"), "{}", plan.err);
    assert_eq!(
        count(&mut database.connect(), "SELECT count(*) FROM orders"),
        0
    );
}

#[test]
fn options_and_the_command_need_each_other() {
    let folder = folder(&[]);
    let database = real();
    for args in [
        &["plan"][..],
        &["run", "--scratch-here"],
        &["run", "--deny", "rewrite"],
        &["plan", "--scratch-here", "--deny", "rewrites"],
        &["plan", "--scratch-here", "--scratch", "x"],
    ] {
        assert_eq!(migrate(&folder, &database, args).code, 2, "{args:?}");
    }
    let nothing = plan_here(&folder, &database, &[]);
    assert_eq!((nothing.code, &*nothing.out), (0, "nothing to run\n"));
}

#[test]
fn pairs_lead_to_a_database_of_the_same_server() {
    let folder = folder(&["ALTER TABLE orders ADD COLUMN age int"]);
    let database = real();
    let mut conn = database.connect();
    let [socket, port] = ["unix_socket_directories", "port"].map(|it| setting(&mut conn, it));
    let pairs = format!(
        "host={socket} port={port} user=postgres dbname={}",
        database.name
    );
    let pairs = Database::in_place(pairs, &database.name);
    let plan = plan_here(&folder, &pairs, &[]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.out.contains("ACCESS EXCLUSIVE"), "{}", plan.out);
}

#[test]
fn an_interrupted_plan_drops_its_database() {
    let folder = folder(&["SELECT pg_sleep(50)"]);
    let database = real();
    for signal in ["-INT", "-TERM"] {
        let mut command = folder.command(&["migrate", "plan", "--scratch-here"]);
        command.env("DATABASE_URL", &database.url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let id = child.id();
        let sleeping = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pglock_plan_{id}_%'
             AND query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        );
        let mut conn = database.connect();
        wait_until("the plan sleeps", || count(&mut conn, &sleeping) == 1);
        assert_eq!(databases(&database, &format!("pglock_scratch_{id}_%")), 1);
        let kill = Command::new("kill")
            .args([signal, &id.to_string()])
            .status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(databases(&database, &format!("pglock_scratch_{id}_%")), 0);
    }
}
