//! `pglock migrate`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use diesel::connection::SimpleConnection;
use diesel::migration::MigrationConnection;
use diesel::{Connection, PgConnection};
use diesel_pglock::AdvisoryKey;
use diesel_pglock::prelude::*;
use serde_json::Value;

use super::terminal::Terminal;
use super::{Folder, Ran, named, ran};
use crate::support::{Database, advisory_locks, count, server, wait_until};

/// A folder with two migrations: of `users`, and of `posts`.
fn folder() -> Folder {
    Folder::new()
        .with(
            "migrations/2026-01-01-000000_age/up.sql",
            "ALTER TABLE users ADD COLUMN age int;",
        )
        .with(
            "migrations/2026-01-01-000000_age/down.sql",
            "ALTER TABLE users DROP COLUMN age;",
        )
        .with(
            "migrations/2026-01-02-000000_body/up.sql",
            "ALTER TABLE posts ADD COLUMN body text;",
        )
        .with(
            "migrations/2026-01-02-000000_body/down.sql",
            "ALTER TABLE posts DROP COLUMN body;",
        )
}

fn migrate(folder: &Folder, database: &Database, args: &[&str]) -> Ran {
    let mut command = folder.command(&["migrate"]);
    ran(command.args(args).env("DATABASE_URL", &database.url))
}

#[test]
fn a_directory_is_run_and_reverted() {
    let (folder, database) = (folder(), Database::new());
    let pending = migrate(&folder, &database, &["pending"]);
    let both = "2026-01-01-000000_age\n2026-01-02-000000_body\n";
    assert_eq!((pending.code, &*pending.out), (0, both), "{pending:?}");

    let run = migrate(&folder, &database, &[]);
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(lines[0].starts_with("migrating as pid "), "{}", lines[0]);
    assert_eq!(lines[1], "running 2026-01-01-000000_age");
    assert!(
        lines[2].starts_with("2026-01-01-000000_age: run in "),
        "{}",
        run.out
    );
    assert_eq!(
        lines[5],
        "2026-01-01-000000_age locked public.users in ACCESS EXCLUSIVE mode"
    );
    assert_eq!(lines.last(), Some(&"2 run"));
    assert!(
        !run.out.contains(['\u{1b}', '\r']),
        "plain lines: {:?}",
        run.out
    );

    assert_eq!(migrate(&folder, &database, &["pending"]).code, 1);
    let again = migrate(&folder, &database, &["run"]);
    assert_eq!((again.code, &*again.out), (0, "nothing to run\n"));

    let reverted = migrate(&folder, &database, &["revert"]);
    assert_eq!(reverted.code, 0, "{reverted:?}");
    let status = migrate(&folder, &database, &["status"]);
    let expected = "applied  2026-01-01-000000_age\npending  2026-01-02-000000_body\n";
    assert_eq!((status.code, &*status.out), (0, expected));

    assert_eq!(migrate(&folder, &database, &["revert", "--all"]).code, 0);
    let nothing = migrate(&folder, &database, &["revert"]);
    assert_eq!((nothing.code, &*nothing.out), (1, "nothing to revert\n"));
}

#[test]
fn migrations_with_one_version_and_missing_ones_are_named() {
    let database = Database::new();
    let twice = ["a", "b"].iter().fold(Folder::new(), |folder, name| {
        let path = format!("migrations/2026-01-01-000000_{name}");
        folder
            .with(
                &format!("{path}/up.sql"),
                &format!("CREATE TABLE {name} ()"),
            )
            .with(&format!("{path}/down.sql"), &format!("DROP TABLE {name}"))
    });
    let status = migrate(&twice, &database, &["status"]);
    let expected = "skipped  2026-01-01-000000_a\npending  2026-01-01-000000_b\n";
    assert_eq!(status.out, expected);
    assert_eq!(
        migrate(&twice, &database, &["pending"]).out,
        "2026-01-01-000000_b\n"
    );
    let run = migrate(&twice, &database, &["run"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out
            .contains("`2026-01-01-000000_b` has the version of `2026-01-01-000000_a`"),
        "{}",
        run.out
    );
    let status = migrate(&twice, &database, &["status"]);
    let expected = "ambiguous  2026-01-01-000000_a\nambiguous  2026-01-01-000000_b\n";
    assert_eq!(status.out, expected);

    let other = Folder::new().with("migrations/2026-01-02-000000_c/up.sql", "SELECT 1");
    let status = migrate(&other, &database, &["status"]);
    let expected = "missing  20260101000000\npending  2026-01-02-000000_c\n";
    assert_eq!(status.out, expected);
}

#[test]
fn a_blocker_is_terminated_and_named() {
    let (folder, database) = (folder(), Database::new());
    let mut holder = named(&database, "forgotten console");
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    let pid = holder.backend_pid().unwrap();
    let run = migrate(
        &folder,
        &database,
        &["--grace", "100ms", "--policy", "terminate"],
    );
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out.contains(&format!(
            "  blocked by pid {pid} (application `forgotten console`"
        )),
        "{}",
        run.out
    );
    assert!(
        run.out.contains(&format!("  terminate {pid}: sent\n")),
        "{}",
        run.out
    );
    assert!(
        run.out.contains("\n2 run, 1 blocker signalled, "),
        "{}",
        run.out
    );
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn a_session_that_an_option_spares_is_not_signalled() {
    let (folder, database) = (folder(), Database::new());
    let mut holder = named(&database, "billing job");
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    let mut args = vec![
        "--grace",
        "0s",
        "--lock-timeout",
        "400ms",
        "--attempts",
        "1",
    ];
    args.extend(["--spare", "pid=1", "--spare", "activity.application~BILL"]);
    let run = migrate(&folder, &database, &args);
    assert_eq!(run.code, 5, "{run:?}");
    let spared = ": spared, the prioritizer was told to spare it";
    assert!(
        run.out.contains(spared) && run.err.contains(spared),
        "{run:?}"
    );
    holder.batch_execute("COMMIT").expect("it was spared");

    let run = migrate(&folder, &database, &["--spare", "relation=users"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.err.contains("`relation` is no field of a session"),
        "{run:?}"
    );
}

#[test]
fn observing_signals_no_session() {
    let (folder, database) = (folder(), Database::new());
    let mut holder = named(&database, "holder");
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    let args = [
        "--observe",
        "--lock-timeout",
        "400ms",
        "--attempts",
        "2",
        "--interval",
        "50ms",
    ];
    let run = migrate(&folder, &database, &args);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.out.contains("blocked by"), "{}", run.out);
    assert!(
        run.out.contains("running 2026-01-01-000000_age, attempt 2"),
        "{}",
        run.out
    );
    assert!(
        run.out.ends_with("waiting for locks\n") && run.out.contains("0 run, 1 failed"),
        "{}",
        run.out
    );
    assert!(run.err.starts_with("pglock: "), "{}", run.err);
    holder
        .batch_execute("COMMIT")
        .expect("it was not signalled");
}

#[test]
fn the_report_is_shown_as_json_on_request() {
    let (folder, database) = (folder(), Database::new());
    let run = migrate(&folder, &database, &["--json"]);
    let report: Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!(report["migrations"][1]["name"], "2026-01-02-000000_body");
    assert_eq!(
        report["migrations"][1]["locks"][0]["mode"],
        "ACCESS EXCLUSIVE"
    );
    assert!(report["migrations"][1]["duration"].is_f64(), "{}", run.out);
    let status = migrate(&folder, &database, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(
        status[0],
        serde_json::json!({"name": "2026-01-01-000000_age", "applied": true, "state": "applied"})
    );
}

#[test]
fn a_report_as_json_has_the_session_and_the_error() {
    let (folder, database) = (folder(), Database::new());
    let json = |args: &[&str]| {
        let ran = migrate(&folder, &database, args);
        let report: Value = serde_json::from_str(&ran.out).expect("JSON");
        (report, ran.err)
    };
    let (report, _) = json(&["--json"]);
    assert!(
        report["pid"].is_i64() && report["error"].is_null(),
        "{report}"
    );
    database.running("ALTER TABLE posts DROP COLUMN body");
    let (report, err) = json(&["revert", "--json"]);
    let error = report["error"].as_str().unwrap();
    assert!(error.contains("body"), "{report}");
    assert_eq!(err.trim_end(), format!("pglock: {error}"));
    assert_eq!(report["migrations"][0]["succeeded"], false);
}

#[test]
fn migrations_are_listed_and_redone_as_by_diesels_own_command() {
    let (folder, database) = (folder(), Database::new());
    let list = || migrate(&folder, &database, &["list"]).out;
    migrate(&folder, &database, &["run"]);
    migrate(&folder, &database, &["revert"]);
    assert_eq!(
        list(),
        "Migrations:\n  [X] 2026-01-01-000000_age\n  [ ] 2026-01-02-000000_body\n"
    );
    // Only what was reverted is run again.
    let redone = migrate(&folder, &database, &["redo"]);
    assert!(redone.out.ends_with("\n1 reverted, 1 run\n"), "{redone:?}");
    assert!(list().contains("[ ] 2026-01-02"), "{}", list());
    migrate(&folder, &database, &["run"]);
    let redone = migrate(&folder, &database, &["redo", "-n", "2"]);
    assert!(redone.out.ends_with("\n2 reverted, 2 run\n"), "{redone:?}");
    let reverted = migrate(&folder, &database, &["revert", "-n", "5"]);
    assert!(reverted.out.ends_with("\n2 reverted\n"), "{reverted:?}");
    let redone = migrate(&folder, &database, &["redo", "--all"]);
    assert_eq!(
        (redone.code, &*redone.out),
        (0, "nothing to revert\n"),
        "as with Diesel"
    );
    let redone = migrate(&folder, &database, &["redo"]);
    assert_eq!((redone.code, &*redone.out), (1, "nothing to revert\n"));
}

#[test]
fn the_directory_is_found_where_diesel_finds_it() {
    let database = Database::new();
    let step = |folder: &str| {
        (
            format!("{folder}/2026-01-01-000000_step/up.sql"),
            "SELECT 1",
        )
    };
    let folder = ["migrations", "a/named", "b", "c"]
        .iter()
        .fold(Folder::new(), |made, name| {
            let (path, text) = step(name);
            let path = path.replace("_step", &format!("_{}", name.replace('/', "_")));
            made.with(&path, text)
        });
    let folder = folder.with("a/work/empty", "");
    let pending = |folder: &Folder, at: &str, variables: &[(&str, &str)], args: &[&str]| {
        let mut command = folder.command(&["migrate", "pending"]);
        command.args(args).env("DATABASE_URL", &database.url);
        command.current_dir(folder.0.join(at));
        let ran = ran(command.envs(variables.iter().copied()));
        ran.out.trim().replace("2026-01-01-000000_", "") + &ran.err
    };
    assert_eq!(pending(&folder, "a/work", &[], &[]), "migrations");
    let folder = folder.with("a/diesel.toml", "[migrations_directory]\ndir = \"named\"\n");
    assert_eq!(pending(&folder, "a/work", &[], &[]), "a_named");
    let variable = [("MIGRATION_DIRECTORY", "../../b")];
    assert_eq!(pending(&folder, "a/work", &variable, &[]), "b");
    for option in ["--migration-dir", "--migrations"] {
        assert_eq!(
            pending(&folder, "a/work", &variable, &[option, "../../c"]),
            "c"
        );
    }
    let folder = folder.with("other.toml", "[migrations_directory]\ndir = 1\n");
    let error = pending(&folder, "", &[("DIESEL_CONFIG_FILE", "other.toml")], &[]);
    assert!(error.contains("other.toml:2: "), "{error}");
}

#[test]
fn the_signal_log_is_installed_without_a_directory() {
    let (folder, database) = (Folder::new(), Database::new());
    let installed = migrate(&folder, &database, &["install"]);
    assert_eq!(installed.code, 0, "{installed:?}");
    assert!(installed.out.ends_with(" run\n"), "{}", installed.out);
    let log = "SELECT count(*) FROM pglock.signal_log";
    assert_eq!(count(&mut database.connect(), log), 0);
    let again = migrate(&folder, &database, &["install"]);
    assert_eq!((again.code, &*again.out), (0, "nothing to run\n"));
}

#[test]
fn a_failure_is_exit_code_5_and_a_wrong_option_2() {
    let database = Database::new();
    let broken = Folder::new().with(
        "migrations/2026-01-01-000000_x/up.sql",
        "ALTER TABLE nowhere ADD x int;",
    );
    let run = migrate(&broken, &database, &[]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.err.contains("nowhere"), "{}", run.err);
    for args in [
        &["--migrations", "elsewhere"][..],
        &["--lock-timeout", "0s"],
        &["--policy", "kill"],
        &["--attempts", "0"],
        &["run", "--all"],
        &["run", "-n", "1"],
        &["revert", "--all", "-n", "1"],
        &["redo", "-n", "0"],
        &["--observe", "--policy", "cancel"],
    ] {
        let run = migrate(&broken, &database, args);
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
    }
    let audit = migrate(&broken, &database, &["--audit"]);
    assert_eq!(audit.code, 5, "{audit:?}");
    assert!(audit.err.contains("pglock.signal_log"), "{}", audit.err);
}

#[test]
fn behind_a_pooler_migrations_are_listed_and_not_run() {
    let (folder, database) = (folder(), Database::new());
    let Some(url) = crate::pgbouncer::url(&database) else {
        return;
    };
    let pooled = |args: &[&str]| ran(folder.command(args).env("DATABASE_URL", &url));
    for _ in 0..3 {
        let status = pooled(&["migrate", "status"]);
        assert_eq!(
            (status.code, status.out.lines().count()),
            (0, 2),
            "{status:?}"
        );
        let listed = pooled(&["ls", "--json"]);
        // 1: there is no lock to list.
        assert!(matches!(listed.code, 0 | 1), "{listed:?}");
        let run = pooled(&["migrate", "run"]);
        assert_eq!(run.code, 2, "{run:?}");
        for broken in ["pooler", "migration lock", "another client", "directly"] {
            assert!(run.err.contains(broken), "{}", run.err);
        }
    }
    let mut conn = PgConnection::establish(&url).unwrap();
    let statements = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '\\_\\_diesel%'";
    let own = count(&mut conn, statements);
    drop(conn);
    assert!(own <= 1, "the one that counts: {own}");
    assert_eq!(advisory_locks(&mut database.connect()), 0);
}

#[test]
fn the_metadata_of_a_migration_sets_its_limits() {
    let database = Database::new();
    let metadata = "migrations/2026-01-01-000000_age/metadata.toml";
    let table = "run_in_transaction = true\n[pglock]\nlock_timeout = \"50ms\"\n";
    let limited = folder().with(
        metadata,
        &format!("{table}attempts = 1\nlock_first = [\"users\", \"posts:share\"]\n"),
    );
    let mut holder = database.running("BEGIN; LOCK TABLE users");
    let args = ["--observe", "--lock-timeout", "none"];
    let run = migrate(&limited, &database, &args);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(!run.out.contains("attempt 2"), "{}", run.out);
    holder.batch_execute("COMMIT").unwrap();
    let run = migrate(&limited, &database, &["--lock-first", "posts"]);
    assert_eq!(run.code, 0, "{run:?}");
    let locked = "2026-01-01-000000_age locked public.posts in ACCESS EXCLUSIVE mode";
    assert!(run.out.contains(locked), "{}", run.out);

    let misspelt = folder().with(metadata, &format!("{table}atempts = 1\n"));
    let run = migrate(&misspelt, &database, &[]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.err.contains("metadata.toml:4: ") && run.err.contains("`atempts`"),
        "{}",
        run.err
    );
}

#[test]
fn a_second_instance_waits_for_the_first() {
    let (folder, database) = (folder(), Database::new());
    let mut holder = database.connect();
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    let mut command = folder.command(&["migrate", "--observe", "--lock-timeout", "none"]);
    let first = command
        .env("DATABASE_URL", &database.url)
        .stdout(Stdio::piped())
        .spawn();
    let mut first = first.unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass";
    let mut observer = database.connect();
    wait_until("the first instance waits", || {
        count(&mut observer, waits) > 0
    });
    let second = migrate(&folder, &database, &["--wait-for-instances", "200ms"]);
    assert_eq!(second.code, 5, "{second:?}");
    let instance = format!(
        "held by pid {} (application `pglock`",
        backend(&mut observer)
    );
    assert!(
        second.out.contains("\nwaiting for another instance; "),
        "{}",
        second.out
    );
    let next = "next migration is `2026-01-01-000000_age`";
    for text in [&second.out, &second.err] {
        assert!(text.contains(&instance) && text.contains(next), "{text}");
    }
    assert!(second.err.contains("was not acquired"), "{}", second.err);
    holder.batch_execute("COMMIT").unwrap();
    let mut out = String::new();
    first
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(first.wait().unwrap().success(), "{out}");
}

/// Returns the process id of the session that has the migration lock.
fn backend(observer: &mut PgConnection) -> i64 {
    count(
        observer,
        "SELECT pid::int8 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
}

#[test]
fn an_interrupt_leaves_no_session_waiting_on_the_server() {
    let (folder, database) = (folder(), Database::new());
    let mut holder = database.connect();
    holder.batch_execute("BEGIN; SELECT FROM users").unwrap();
    let directory = folder.0.join("migrations");
    let args = [
        "migrate",
        "--migrations",
        directory.to_str().unwrap(),
        "--observe",
        "--lock-timeout",
        "none",
    ];
    let mut terminal = Terminal::start(&database, &args, (24, 100));
    terminal.wait_for("it is blocked", |screen| screen.contains("blocked by"));
    terminal.wait_for("the time goes on", |screen| {
        screen.contains("… 2026-01-01-000000_age 1.")
    });
    terminal.type_("\u{3}");
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass";
    assert_eq!(count(&mut database.connect(), waits), 0);
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(
        migrate(&folder, &database, &["pending"])
            .out
            .lines()
            .count(),
        2
    );
}

#[test]
fn an_interrupt_waits_for_a_connection_to_cancel_over() {
    let (folder, database) = (folder(), Database::new());
    let (url, role) = (database.role_url(), format!("{}_role", database.name));
    // The session that migrates, and the watcher's.
    let mut admin = database.running(&format!(
        "GRANT ALL ON SCHEMA public TO {role}; ALTER TABLE users OWNER TO {role};
         ALTER ROLE {role} CONNECTION LIMIT 2"
    ));
    let mut holder = database.running("BEGIN; SELECT FROM users");
    let directory = folder.0.join("migrations");
    let args = ["migrate", "--migrations", directory.to_str().unwrap()];
    let args = [&args[..], &["--observe", "--lock-timeout", "none"]].concat();
    let variables = [("DATABASE_URL", &*url)];
    let mut terminal = Terminal::with(&database, &args, (24, 100), &variables);
    terminal.wait_for("it is blocked", |screen| screen.contains("blocked by"));
    terminal.type_("\u{3}");
    let refused = format!("too many connections for role \"{role}\"");
    wait_until("it is refused", || {
        let log = std::fs::read(server().log_file()).unwrap();
        String::from_utf8_lossy(&log).contains(&refused)
    });
    admin
        .batch_execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 3"))
        .unwrap();
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass";
    assert_eq!(count(&mut admin, waits), 0);
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn the_redrawn_line_is_erased_at_the_end() {
    let (folder, database) = (folder(), Database::new());
    let directory = folder.0.join("migrations");
    let args = ["migrate", "--migrations", directory.to_str().unwrap()];
    let mut terminal = Terminal::start(&database, &args, (24, 100));
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    let screen = terminal.screen();
    assert!(!screen.contains('…'), "{screen}");
    assert!(screen.trim_end().ends_with("\n2 run"), "{screen}");
}

/// A folder with migrations, a database with a history, and a session that locks it.
fn locked_history() -> (Folder, Database, PgConnection) {
    let database = Database::new();
    let mut holder = named(&database, "holder");
    holder.setup().unwrap();
    holder
        .batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations")
        .unwrap();
    (folder(), database, holder)
}

#[test]
fn a_locked_history_is_an_error_that_names_its_holder() {
    let (folder, database, mut holder) = locked_history();
    for action in ["run", "revert", "pending", "status"] {
        let args = ["--observe", "--lock-timeout", "150ms", "--attempts", "1"];
        let refused = migrate(&folder, &database, &[&[action], &args[..]].concat());
        assert_eq!(refused.code, 5, "{refused:?}");
        let all = refused.out + &refused.err;
        for text in [
            "waiting for the history of migrations\n",
            "pglock: the history of migrations could not be read; held by pid ",
            "application `holder`",
        ] {
            assert!(all.contains(text), "{action}: {all}");
        }
    }
    holder
        .batch_execute("COMMIT")
        .expect("it was not signalled");
}

#[test]
fn a_session_that_locks_the_history_is_terminated() {
    let (folder, database, mut holder) = locked_history();
    let run = migrate(&folder, &database, &["--grace", "0s"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out.contains("\n2 run, 1 blocker signalled"),
        "{}",
        run.out
    );
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn a_termination_leaves_no_session_waiting_for_the_history() {
    let (folder, database, _holder) = locked_history();
    let mut observer = database.connect();
    for action in ["run", "status"] {
        let mut command =
            folder.command(&["migrate", action, "--observe", "--lock-timeout", "none"]);
        command.env("DATABASE_URL", &database.url);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted
                       AND relation = '__diesel_schema_migrations'::regclass";
        wait_until("it waits", || count(&mut observer, blocked) > 0);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        wait_until("nothing is left on the server", || {
            count(&mut observer, blocked) + advisory_locks(&mut observer) == 0
        });
    }
}

#[test]
fn a_termination_ends_a_concurrent_index_and_locks_that_come_first() {
    let concurrent = "CREATE INDEX CONCURRENTLY users_name ON users (name);";
    for (up, in_transaction, args) in [
        (concurrent, false, &["--repair-indexes", "drop"][..]),
        (
            "SELECT 1;",
            true,
            &["--lock-first", "posts", "--lock-first", "users"],
        ),
    ] {
        let database = Database::new();
        let path = "migrations/2026-01-01-000000_step";
        let toml = format!("run_in_transaction = {in_transaction}");
        let folder = Folder::new()
            .with(&format!("{path}/up.sql"), up)
            .with(&format!("{path}/metadata.toml"), &toml);
        let mut holder = database.running("BEGIN; INSERT INTO users (name) VALUES ('held')");
        let mut observer = database.connect();
        let mut command = folder.command(&["migrate", "--observe", "--lock-timeout", "none"]);
        command.args(args).env("DATABASE_URL", &database.url);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND wait_event_type = 'Lock'";
        wait_until("it waits", || count(&mut observer, waits) == 1);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{up}");
        wait_until("nothing is left on the server", || {
            count(&mut observer, waits) + advisory_locks(&mut observer) == 0
        });
        holder.batch_execute("COMMIT").unwrap();
    }
}

#[test]
fn a_termination_ends_the_wait_for_another_instance() {
    let (folder, database) = (folder(), Database::new());
    let mut other = database.connect();
    let key = AdvisoryKey::named("diesel_pglock::migrations::public");
    let _held = other.advisory(key).acquire().unwrap();
    let mut command = folder.command(&["migrate"]);
    command
        .env("DATABASE_URL", &database.url)
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let second_line = out.lines().nth(1).unwrap().unwrap();
    assert!(
        second_line.starts_with("waiting for another instance; "),
        "{second_line}"
    );
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn terminate(child: &Child) {
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}
