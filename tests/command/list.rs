//! `pglock ls`.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use diesel::connection::SimpleConnection;
use diesel_pglock::prelude::*;
use serde_json::Value;

use super::{Folder, Jam, Ran, named, pglock, ran};
use crate::support::{Database, Waiting, server};

fn json(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn waiting_locks_are_listed_first() {
    let jam = Jam::new();
    for args in [&["--on", "users"][..], &["ls", "--on", "public.users"]] {
        let ran = pglock(&jam.database, args);
        assert_eq!(ran.code, 0, "{ran:?}");
        let lines: Vec<&str> = ran.out.lines().collect();
        assert!(lines[0].starts_with("PID"), "{}", ran.out);
        assert!(
            lines[1].starts_with(&jam.waiter_pid.to_string()),
            "{}",
            ran.out
        );
        assert!(lines[1].contains("AccessExclusiveLock"), "{}", ran.out);
        assert!(
            lines[2].starts_with(&jam.holder_pid.to_string()),
            "{}",
            ran.out
        );
        assert!(lines[2].contains("idle in transaction"), "{}", ran.out);
        assert!(
            !ran.out.contains('\u{1b}'),
            "no colour in a pipe: {}",
            ran.out
        );
    }
    jam.end().unwrap();
}

#[test]
fn pids_and_filters_narrow_the_list() {
    let jam = Jam::new();
    let (holder, waiter) = (jam.holder_pid.to_string(), jam.waiter_pid.to_string());
    let found = |args: &[&str]| {
        let args = [&["--json", "-a", "pid", "--on", "users"], args].concat();
        let pids = json(&pglock(&jam.database, &args).out);
        pids.iter()
            .map(|it| it["pid"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&[&waiter]), [&*waiter]);
    assert_eq!(found(&["-f", "granted=false"]), [&*waiter]);
    assert_eq!(
        found(&["-f", "granted=true", "-f", "mode=RowExclusive"]),
        [&*holder]
    );
    assert_eq!(found(&["-f", "activity.application~HOLD"]), [&*holder]);
    assert_eq!(found(&["-f", "wait_duration>1h"]), [""; 0]);
    assert_eq!(found(&["-f", "mode>=share", "--on", "posts"]), [&*waiter]);
    jam.end().unwrap();
}

#[test]
fn a_usage_error_lists_the_possible_values() {
    let database = Database::new();
    for (args, expected) in [
        (&["-f", "colour=red"][..], "the fields are pid, "),
        (&["-f", "mode=DROP"], "`ACCESS EXCLUSIVE`"),
        (&["-f", "wait_duration>soon"], "5s"),
        (&["-a", "colour"], "activity.query"),
        (&["-a", "blocking.pid"], "--blocking"),
        (&["--on", "nowhere"], "relation `nowhere` does not exist"),
        // PostgreSQL 16 and later only report an invalid name.
        (&["--on", "a b"], "relation `a b`"),
        (
            &["--config", "stuck"],
            "unknown config `stuck`: found no `pglock.toml`",
        ),
        (&["--yes"], "--cancel"),
        (&["--cancel", "--terminate"], "cannot be used with"),
        (&["--limit", "3", "ls"], "pglock ls --limit"),
        (&["sl"], "not a pid"),
        (&["tre"], "not a pid; did you mean `pglock tree`?"),
        (&["-f", "activity.client=zz"], "`zz` is not an address"),
    ] {
        let ran = pglock(&database, args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
    }
}

#[test]
fn an_empty_list_is_exit_code_1() {
    let ran = pglock(&Database::new(), &["--on", "users"]);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (1, "", "no locks\n"));
    let ran = pglock(&Database::new(), &["--on", "users", "--json"]);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (1, "[]\n", ""));
}

#[test]
fn a_failed_connection_is_exit_code_3_without_the_password() {
    let folder = Folder::new();
    for url in [
        "postgres://app:hunter2@127.0.0.1:1/x",
        "host=127.0.0.1 port=1 password=hunter2",
        "postgres://app:hunter2/x@127.0.0.1:1/x",
        "postgres://app:p@hunter2@127.0.0.1:1/x",
    ] {
        let ran = ran(&mut folder.command(&["--database-url", url]));
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.starts_with("pglock: "), "{}", ran.err);
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn the_password_of_a_mistyped_url_is_not_shown() {
    for url in [
        "postgres:/app:hunter2@host/db",
        "app:hunter2@host/db",
        "postgre://app:hunter2@host/db",
        "postgre://app@host/db?password=hunter2",
    ] {
        let ran = ran(&mut Folder::new().command(&["--database-url", url]));
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_question_mark_in_a_password_begins_no_parameters() {
    let database = Database::new();
    let url = database.url.replacen("postgres@", "postgres:a?b@", 1);
    let ran = ran(&mut Folder::new().command(&["ls", "--on", "users", "--database-url", &url]));
    assert_eq!((ran.code, &*ran.err), (1, "no locks\n"), "{ran:?}");
}

#[test]
fn a_lock_is_listed_with_its_blocker() {
    let jam = Jam::new();
    let ran = pglock(&jam.database, &["--blocking", "--json", "--on", "users"]);
    let rows = json(&ran.out);
    assert_eq!(rows.len(), 1, "{}", ran.out);
    assert_eq!(rows[0]["pid"], jam.waiter_pid);
    assert_eq!(rows[0]["blocking"]["pid"], jam.holder_pid);
    assert_eq!(rows[0]["blocking"]["application_name"], "holder");
    assert!(rows[0]["activity"]["transaction_duration"].is_f64());
    jam.end().unwrap();
}

#[test]
fn the_limit_reports_the_number_of_all_locks() {
    let database = Database::new();
    let mut conn = database.connect();
    conn.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 40) n")
        .unwrap();
    let pid = conn.backend_pid().unwrap().to_string();
    let advisory = ["-f", "type=advisory", &pid];
    let ran = pglock(&database, &advisory);
    assert_eq!(ran.out.lines().count(), 26, "{}", ran.out);
    assert_eq!(ran.err, "25 of 40 locks; --limit shows more\n");
    let ran = pglock(&database, &[&advisory[..], &["--limit", "3"]].concat());
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
}

#[test]
fn an_expanded_lock_has_a_line_for_each_field() {
    let jam = Jam::new();
    let ran = pglock(
        &jam.database,
        &["--expanded", "--on", "users", "-f", "granted=false"],
    );
    assert!(ran.out.starts_with("-[ lock 1 ]-"), "{}", ran.out);
    assert!(
        ran.out
            .contains("mode                          | AccessExclusiveLock\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("| ALTER TABLE users ADD COLUMN age int\n"),
        "{}",
        ran.out
    );
    jam.end().unwrap();
}

#[test]
fn terminate_ends_the_blocker() {
    let jam = Jam::new();
    let args = ["--blocking", "--on", "users", "--terminate"];
    let (holder, ran) = (
        jam.holder_pid,
        pglock(&jam.database, &[&args[..], &["--dry-run"]].concat()),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out
            .starts_with(&format!("would terminate 1 session:\n  {holder}  holder")),
        "{}",
        ran.out
    );

    let declined = pglock(&jam.database, &args);
    assert_eq!(declined.code, 1, "{declined:?}");
    assert!(
        declined
            .err
            .starts_with(&format!("Terminate 1 session?\n  {holder}  holder")),
        "{}",
        declined.err
    );
    assert!(
        declined.err.ends_with("nothing was done\n"),
        "{}",
        declined.err
    );

    let ran = pglock(&jam.database, &[&args[..], &["--yes"]].concat());
    assert_eq!(
        (ran.code, ran.out),
        (0, format!("{holder} ended; 1 session goes on\n"))
    );
    jam.waiter.join().unwrap().expect("the waiter has its lock");
}

#[test]
fn cancel_ends_the_query_of_the_waiter() {
    let jam = Jam::new();
    let args = [
        "-f",
        "granted=false",
        "--on",
        "users",
        "--cancel",
        "--yes",
        "--json",
    ];
    let ran = pglock(&jam.database, &args);
    let sent = json(&ran.out);
    assert_eq!((ran.code, sent.len()), (0, 1), "{}", ran.out);
    assert_eq!(
        (&sent[0]["kind"], &sent[0]["outcome"]),
        (&"cancel".into(), &"sent".into())
    );
    assert!(jam.end().is_err(), "its query was cancelled");
}

#[test]
fn a_cancel_that_changes_nothing_is_reported() {
    let jam = Jam::new();
    let args = ["--blocking", "--on", "users", "--cancel", "--yes"];
    let ran = pglock(&jam.database, &args);
    assert_eq!(ran.code, 6, "{ran:?}");
    let is_still = format!("{} is still there: it runs no query", jam.holder_pid);
    assert!(ran.out.starts_with(&is_still), "{ran:?}");
    assert!(
        ran.out
            .ends_with("try --terminate; 1 session still waits\n"),
        "{ran:?}"
    );
    let unverified = pglock(&jam.database, &[&args[..], &["--verify", "0s"]].concat());
    let sent = format!("{}: cancel sent\n", jam.holder_pid);
    assert_eq!((unverified.code, unverified.out), (0, sent));
    jam.end().unwrap();
}

#[test]
fn a_session_that_awaits_the_next_locker_of_a_row_still_waits() {
    let database = Database::new();
    let lock = "BEGIN; SELECT FROM users WHERE id = 1 FOR KEY SHARE";
    let _lockers = [(); 2].map(|()| database.running(lock));
    let waiting = Waiting::on(&database, "DELETE FROM users WHERE id = 1");
    let args = ["--roots", "--on", "users", "--terminate", "--yes"];
    let first = pglock(&database, &args);
    let last = pglock(&database, &args);
    let proof = |ran: &Ran| ran.out.split_once(' ').map(|(_, proof)| proof.to_owned());
    assert_eq!(
        proof(&first).unwrap(),
        "ended; 1 session still waits\n",
        "{first:?}"
    );
    assert_eq!(
        proof(&last).unwrap(),
        "ended; 1 session goes on\n",
        "{last:?}"
    );
    waiting.finish().unwrap();
}

#[test]
fn no_session_to_signal_is_exit_code_1() {
    let ran = pglock(&Database::new(), &["--on", "users", "--terminate", "--yes"]);
    assert_eq!((ran.code, &*ran.err), (1, "no session to signal\n"));
}

#[test]
fn the_output_is_json_even_if_no_session_is_signalled() {
    let args = ["--on", "users", "--terminate", "--yes", "--json"];
    let ran = pglock(&Database::new(), &args);
    assert_eq!((ran.code, &*ran.out), (1, "[]\n"));
    let mut jam = Jam::new();
    let args = ["--on", "users", "--terminate", "--json"];
    let folder = Folder::new();
    let mut command = folder.command(&args);
    command.env("DATABASE_URL", &jam.database.url);
    let declined = super::ran(command.stdin(Stdio::null()));
    assert_eq!((declined.code, &*declined.out), (1, "[]\n"));
    jam.holder.batch_execute("COMMIT").unwrap();
    jam.end().unwrap();
}

#[test]
fn an_argument_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    for args in [&[&b"\xff"[..]][..], &[b"--filter", b"\xff=1"]] {
        let mut command = folder.command(&[]);
        command.args(args.iter().map(|arg| OsStr::from_bytes(arg)));
        let refused = ran(&mut command);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(!refused.err.contains("panicked"), "{}", refused.err);
    }
}

#[test]
fn a_denied_signal_is_exit_code_4() {
    let mut jam = Jam::new();
    let role = format!("visitor_{}", jam.database.name);
    let mut admin = jam.database.connect();
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .unwrap();
    let folder = Folder::new();
    let args = [
        "--on",
        "users",
        "-f",
        "granted=true",
        "--terminate",
        "--yes",
    ];
    let ran = ran(folder
        .command(&args)
        .env("DATABASE_URL", &jam.database.url)
        .env("PGOPTIONS", format!("-c role={role}")));
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.out
            .starts_with(&format!("{}: terminate denied", jam.holder_pid)),
        "{}",
        ran.out
    );
    let advice = "; only a superuser may signal it\n";
    assert!(ran.out.ends_with(advice), "{}", ran.out);
    jam.holder.batch_execute("COMMIT").unwrap();
    jam.end().unwrap();
    admin.batch_execute(&format!("DROP ROLE {role}")).unwrap();
}

/// Fields of a list that no type of the library has.
const EXTRA: [&str; 5] = ["activity", "gid", "target", "relation_kind", "context"];

#[test]
fn lists_and_trees_name_the_same_things_alike() {
    let jam = Jam::new();
    let list = pglock(
        &jam.database,
        &["--json", "-f", "granted=false", "--on", "users"],
    );
    let tree = pglock(&jam.database, &["tree", "--json", "--on", "users"]);
    jam.end().unwrap();
    let row = json(&list.out).remove(0);
    let tree: Value = serde_json::from_str(&tree.out).unwrap();
    let nodes = tree["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|it| it["pid"] == row["pid"]).unwrap();
    let same = |shown: &Value, known: &Value| {
        for (name, value) in shown.as_object().unwrap() {
            let known = known.get(name);
            let is_extra = EXTRA.contains(&&**name);
            assert!(known.is_some() || is_extra, "{name}");
            let is_age = name.ends_with("duration");
            assert!(
                is_extra || is_age || known == Some(value),
                "{name}: {value}"
            );
        }
    };
    same(&row, &node["wait"]["lock"]);
    same(&row["activity"], &node["activity"]);
}

#[test]
fn short_names_of_fields_are_accepted() {
    let jam = Jam::new();
    let columns = [
        "--on",
        "users",
        "--columns",
        "pid,type,activity.client",
        "-a",
        "prepared",
    ];
    let ran = pglock(
        &jam.database,
        &[&columns[..], &["-f", "activity.start>2020-01-01T00:00:00Z"]].concat(),
    );
    jam.end().unwrap();
    let head = ran
        .out
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace();
    assert_eq!(
        head.collect::<Vec<_>>(),
        ["PID", "TYPE", "CLIENT", "PREPARED"],
        "{ran:?}"
    );
}

#[test]
fn a_prepared_transaction_is_listed_by_its_name() {
    let database = Database::new();
    let mut conn = database.connect();
    let gid = format!("gid of {}", database.name);
    conn.batch_execute(&format!("BEGIN; LOCK users; PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    let shown = pglock(&database, &["--on", "users", "--json"]);
    let terminated = pglock(&database, &["--on", "users", "--terminate", "--yes"]);
    let waiting = Waiting::on(&database, "BEGIN; LOCK users; COMMIT");
    let blocking = pglock(&database, &["--on", "users", "--blocking", "--json"]);
    let tree = pglock(&database, &["tree", "--on", "users", "--json"]);
    conn.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    assert_eq!(json(&shown.out)[0]["gid"], *gid);
    assert_eq!(json(&blocking.out)[0]["blocking"]["gid"], *gid);
    let tree: Value = serde_json::from_str(&tree.out).unwrap();
    assert!(
        tree.to_string()
            .contains(&format!(r#""blockers":[{{"gid":"{gid}""#)),
        "{tree}"
    );
    assert_eq!(terminated.code, 1, "{terminated:?}");
    waiting.finish().unwrap();
}

#[test]
fn hostile_texts_do_not_break_the_table() {
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}x\u{9b}2J\r\u{1b}[2J";
    let database = Database::new();
    let mut conn = named(&database, "x");
    let query = format!(
        "/* {}\n\t{} */ BEGIN; LOCK users",
        hostile,
        "\u{200d}e\u{301}漢\n".repeat(8192)
    );
    conn.batch_execute(&query).unwrap();
    conn.batch_execute("SET application_name = E'\\x1b[2J\\nworker\\r'")
        .unwrap();
    conn.batch_execute(&query.replace("BEGIN; LOCK users", "SELECT 1"))
        .unwrap();
    for args in [
        &["--on", "users"][..],
        &["--on", "users", "--expanded"],
        &["--on", "users", "--json"],
    ] {
        let ran = pglock(&database, args);
        assert_eq!(ran.code, 0, "{ran:?}");
        let is_unsafe =
            |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!ran.out.contains(is_unsafe), "{:?}", ran.out);
        if args.len() == 2 {
            assert_eq!(ran.out.lines().count(), 2, "{:?}", ran.out);
        }
    }
}

#[test]
fn shown_names_and_queries_can_be_pasted() {
    let database = Database::new();
    let mut conn = database.connect();
    conn.batch_execute(
        "CREATE SCHEMA \"My Schema\"; CREATE TABLE \"My Schema\".\"Odd.Tbl\" (i int);
         CREATE TABLE \"CamelCase\" (i int)",
    )
    .unwrap();
    conn.batch_execute("BEGIN; LOCK \"My Schema\".\"Odd.Tbl\", \"CamelCase\"")
        .unwrap();
    let pid = conn.backend_pid().unwrap().to_string();
    conn.batch_execute("SELECT 1 -- one\n  , 2").unwrap();
    let tables = pglock(
        &database,
        &[&pid, "-a", "relation", "-f", "mode=AccessExclusive"],
    );
    let names: Vec<&str> = tables.out.lines().skip(1).collect();
    assert_eq!(names.len(), 2, "{tables:?}");
    for name in names {
        for args in [["--on", name], ["-f", &format!("relation={name}")]] {
            let found = pglock(&database, &[&args[..], &["-a", "activity.query"]].concat());
            assert_eq!(
                found.out, "QUERY\nSELECT 1 /* one */ , 2\n",
                "{args:?}: {found:?}"
            );
        }
    }
    let found = pglock(&database, &["-f", "relation=CamelCase", "--expanded"]);
    assert!(found.out.contains("| SELECT 1 -- one\n"), "{found:?}");
    assert!(found.out.contains(" |   , 2\n"), "{found:?}");
}

#[test]
fn a_named_lock_is_found_and_shown_by_its_name() {
    let database = Database::new();
    let mut conn = database.connect();
    let guard = conn.advisory("nightly report").acquire().unwrap();
    let filter = ["-f", "advisory_key=nightly report", "-a", "target"];
    let found = pglock(&database, &filter);
    assert_eq!(
        found.out, "TARGET\nadvisory lock nightly report\n",
        "{found:?}"
    );
    let toml = "advisory_keys = [\"nightly report\"]";
    let folder = Folder::new().with("pglock.toml", toml);
    let mut command = folder.command(&["-f", "type=advisory", "-a", "target"]);
    let listed = ran(command.env("DATABASE_URL", &database.url));
    assert!(
        listed.out.contains("advisory lock nightly report\n"),
        "{listed:?}"
    );
    drop(guard);
}

#[test]
fn a_closed_pipe_ends_the_command_without_an_error() {
    let database = Database::new();
    let mut conn = database.connect();
    conn.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 3000) n")
        .unwrap();
    let folder = Folder::new();
    let mut command = folder.command(&["--limit", "5000", "--json"]);
    command
        .env("DATABASE_URL", &database.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*errors), (Some(0), ""));
}

#[test]
fn the_database_is_found_in_each_source() {
    let database = Database::new();
    let mut conn = database.connect();
    conn.batch_execute("BEGIN; LOCK posts").unwrap();
    let args = ["--on", "posts"];
    let url = &*database.url;
    let dotenv = Folder::new().with(".env", &format!("DATABASE_URL=\"{url}\"\n"));
    assert_eq!(ran(&mut dotenv.command(&args)).code, 0);
    let toml = Folder::new().with(
        "pglock.toml",
        &format!("[databases]\nmain = {url:?}\nother = \"$OTHER\"\n"),
    );
    assert_eq!(ran(toml.command(&args).args(["-d", "main"])).code, 0);
    assert_eq!(
        ran(toml.command(&args).args(["-d", "other"]).env("OTHER", url)).code,
        0
    );
    let missing = ran(toml.command(&args).args(["-d", "third"]));
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("main, other"), "{}", missing.err);
    let service = Folder::new()
        .with(
            "services",
            &format!("[here]\n{}\n", service_lines(&database)),
        )
        .with("passwords", &format!("*:*:*:*:{}\n", password(&database)));
    let (services, passwords) = (service.0.join("services"), service.0.join("passwords"));
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = service.command(&args);
    command
        .env("PGSERVICEFILE", services)
        .env("PGSERVICE", "here");
    command.env("PGPASSFILE", passwords);
    let found = ran(&mut command);
    assert_eq!(found.code, 0, "{found:?}");
}

/// Returns the lines of a service file.
fn service_lines(database: &Database) -> String {
    let (port, name) = (server().port(), &database.name);
    format!("host=127.0.0.1\nport={port}\nuser=postgres\ndbname={name}")
}

fn password(database: &Database) -> String {
    let url = server().tcp_url_for(&database.name);
    let credentials = url.rsplit_once('@').unwrap().0;
    credentials.rsplit_once(':').unwrap().1.to_owned()
}

#[test]
fn a_config_adds_to_the_options() {
    let jam = Jam::new();
    let text = "limit = 7\n[configs.stuck]\non = [\"users\"]\nfilters = [\"granted=false\"]\nattributes = [\"pid\", \"mode\"]\n";
    let folder = Folder::new()
        .with("pglock.toml", text)
        .with("deep/down/here", "");
    let mut command = folder.command(&["--config", "stuck"]);
    command
        .env("DATABASE_URL", &jam.database.url)
        .current_dir(folder.0.join("deep/down"));
    let ran = ran(&mut command);
    let expected = format!(
        "PID{}MODE\n{}  AccessExclusiveLock\n",
        " ".repeat(jam.waiter_pid.to_string().len() - 1),
        jam.waiter_pid
    );
    assert_eq!((ran.code, ran.out), (0, expected));
    jam.end().unwrap();
}

#[test]
fn an_error_in_the_file_has_line_and_key() {
    let database = Database::new();
    let folder = Folder::new().with(
        "pglock.toml",
        "limit = 5\n[configs.a]\nfilters = [\"pid>x\"]\n",
    );
    let ran = ran(folder.command(&[]).env("DATABASE_URL", &database.url));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err
            .contains("pglock.toml:3: `configs.a.filters`: field `pid`"),
        "{}",
        ran.err
    );
}

#[test]
fn locks_of_the_command_itself_are_not_listed() {
    let database = Database::new();
    let ran = pglock(
        &database,
        &[
            "-f",
            "activity.application=pglock",
            "-f",
            &format!("activity.database={}", database.name),
        ],
    );
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn the_password_of_a_misplaced_url_is_not_shown() {
    let url = "postgres://app:hunter2@host/db";
    for args in [
        &[url][..],
        &["--filter", url],
        &["tree", url],
        &["password=hunter2"],
        &["-d", url],
        &[&format!("--database={url}")],
        &[&format!("--limit={url}")],
        &["--config", url],
        &["--attribute", url],
        &["man", url],
    ] {
        let ran = ran(&mut Folder::new().command(args));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
    let database = Database::new();
    for args in [&["--on", url][..], &["who", url]] {
        let ran = pglock(&database, args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_server_that_does_not_answer_does_not_hang_the_command() {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    // The kernel accepts the connection, and no process answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let conninfo = format!("host=127.0.0.1 port={port} user=x dbname=x");
    let started = Instant::now();
    let folder = Folder::new();
    let mut command = folder.command(&["tree", "--database-url", &conninfo]);
    let ran = ran(command.env("PGCONNECT_TIMEOUT", "2"));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("timeout expired"), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_locked_catalog_ends_a_command_after_its_limit() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let database = Database::on(&server);
    let mut conn = database.connect();
    // A session can connect without this catalog, and name nothing.
    conn.batch_execute("BEGIN; LOCK pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    for args in [&["tree"][..], &["--on", "users"], &["who", "users"], &[]] {
        let ran = pglock(&database, &[args, &["--timeout", "500ms"]].concat());
        assert_eq!(ran.code, 5, "{args:?}: {ran:?}");
        assert!(ran.err.contains("statement timeout"), "{args:?}: {ran:?}");
    }
}

#[test]
fn a_mark_of_a_read_is_no_lock_to_signal() {
    let database = Database::new();
    let mut reader = database.connect();
    reader
        .batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM users")
        .unwrap();
    let mut other = database.connect();
    other
        .batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM posts")
        .unwrap();
    // The marks outlive the transaction, as another serializable one is open.
    reader.batch_execute("COMMIT").unwrap();
    let listed = pglock(&database, &["--on", "users"]);
    assert!(listed.out.contains("SIReadLock"), "{listed:?}");
    let ran = pglock(&database, &["--on", "users", "--terminate", "--yes"]);
    assert_eq!((ran.code, &*ran.err), (1, "no session to signal\n"));
    reader.batch_execute("SELECT 1").unwrap();
}
