//! `pglock watch`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use pglock_sandbox::Sandbox;
use serde_json::Value;

use super::terminal::LIMIT;
use super::{Folder, named, pglock};
use crate::support::{Database, Waiting, is_alive, pid, wait_until, wait_until_blocked};

/// The command, and its lines as they come.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    _folder: Folder,
}

impl Watch {
    pub fn start(database: &Database, args: &[&str]) -> Self {
        let watch = Self::spawn(database, args);
        watch.line("watching");
        watch
    }

    /// Starts the command, and leaves its first line to be read.
    pub fn spawn(database: &Database, args: &[&str]) -> Self {
        let folder = Folder::new();
        let args = [&["watch", "--interval", "100ms"], args].concat();
        let mut command = folder.command(&args);
        command.env("DATABASE_URL", &database.url);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // The thread, and with it the pipe, ends with the receiver.
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            _folder: folder,
        }
    }

    /// Returns the next line that contains a text.
    #[track_caller]
    pub fn line(&self, text: &str) -> String {
        self.lines_until(text).pop().expect("a line")
    }

    /// Returns the next lines, up to one that contains a text.
    #[track_caller]
    pub fn lines_until(&self, text: &str) -> Vec<String> {
        let started = Instant::now();
        let mut lines: Vec<String> = Vec::new();
        while !lines.last().is_some_and(|line| line.contains(text)) {
            let left = LIMIT.saturating_sub(started.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{text}: {error}: {lines:#?}"),
            }
        }
        lines
    }

    /// Returns the next event of this kind.
    #[track_caller]
    fn event(&self, event: &str) -> Value {
        let line = self.line(&format!("{{\"event\":\"{event}\""));
        serde_json::from_str(&line).expect("JSON")
    }

    /// Sends SIGINT, and returns the exit code with the remaining lines.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.unwrap().success());
        let code = self.child.wait().unwrap().code();
        (code, self.lines.iter().collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server without the waits of other tests, a session that holds `users`, and the command.
pub struct Night {
    pub database: Database,
    pub holder: PgConnection,
    pub holder_pid: i32,
    _server: Sandbox,
}

impl Night {
    pub fn new(name: &str) -> Self {
        let server = Sandbox::start().unwrap();
        let database = Database::on(&server);
        let mut holder = named(&database, name);
        holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
        Self {
            holder_pid: pid(&mut holder),
            database,
            holder,
            _server: server,
        }
    }
}

/// A session that waits for `users`, and will hold it.
fn next_holder(database: &Database) -> (i32, JoinHandle<PgConnection>) {
    let mut conn = named(database, "next");
    let next = pid(&mut conn);
    let thread = thread::spawn(move || {
        conn.batch_execute("BEGIN; LOCK TABLE users").unwrap();
        conn
    });
    wait_until_blocked(&mut database.connect(), next);
    (next, thread)
}

#[test]
fn a_line_tells_when_sessions_become_blocked_when_that_changes_and_when_it_ends() {
    let night = Night::new("console");
    let watch = Watch::start(&night.database, &[]);
    let holder = night.holder_pid;
    let first = Waiting::on(&night.database, "SELECT FROM users");
    let line = watch.line("episode 1 started: ");
    let state = format!("1 session waits behind 1: {holder} console (1); for relation");
    assert!(line.contains(&state), "{line}");
    assert!(line.contains("public.users; since "), "{line}");
    let second = Waiting::on(&night.database, "SELECT FROM users");
    let line = watch.line("episode 1 changed: ");
    assert!(
        line.contains(&format!("2 sessions wait behind 1: {holder}")),
        "{line}"
    );
    drop(night.holder);
    let line = watch.line("episode 1 ended after ");
    assert!(
        line.ends_with(": 2 sessions waited, at most 2 at once"),
        "{line}"
    );
    first.finish().unwrap();
    second.finish().unwrap();
    let (code, rest) = watch.end();
    assert_eq!((code, rest), (Some(0), Vec::<String>::new()));
}

#[test]
fn an_episode_keeps_its_id_in_json_when_its_root_changes() {
    let night = Night::new("console");
    let watch = Watch::start(&night.database, &["--json"]);
    let (next, thread) = next_holder(&night.database);
    let started = watch.event("started");
    let pids = |value: &Value| -> Vec<i64> {
        let sessions = value.as_array().expect("sessions");
        sessions
            .iter()
            .filter_map(|it| it["pid"].as_i64())
            .collect()
    };
    let episode = &started["episode"];
    assert_eq!(pids(&episode["roots"]), [i64::from(night.holder_pid)]);
    assert_eq!(pids(&episode["waiters"]), [i64::from(next)]);
    assert_eq!(pids(&episode["peak"]["graph"]["nodes"]).len(), 2);
    let wait = &episode["waiters"][0]["wait"];
    assert_eq!(wait["lock"]["target"], "relation public.users");
    let attributes = &started["attributes"];
    assert_eq!(attributes["postgresql.pid"], next);
    let blocking = format!("{{{}}}", night.holder_pid);
    assert_eq!(attributes["postgresql.blocking.pids"], blocking);
    assert_eq!(
        attributes["postgresql.blocking.lock.mode"],
        "AccessExclusiveLock"
    );
    assert_eq!(attributes["db.namespace"], night.database.name);
    assert_eq!(attributes["db.query.text"], "BEGIN; LOCK TABLE users");

    let last = Waiting::on(&night.database, "SELECT FROM users");
    assert_eq!(watch.event("changed")["episode"]["waiter_count"], 2);
    drop(night.holder);
    let next_conn = thread.join().unwrap();
    let changed = watch.event("changed");
    assert_eq!(changed["episode"]["id"], 1);
    assert_eq!(pids(&changed["episode"]["roots"]), [i64::from(next)]);
    drop(next_conn);
    let ended = watch.event("ended");
    assert_eq!(ended["episode"]["id"], 1);
    assert_eq!(ended["episode"]["victim_count"], 2);
    assert_eq!(ended["episode"]["peak"]["waiters"], 2);
    last.finish().unwrap();
    let (code, rest) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        rest.last().unwrap().contains("\"event\":\"stopped\""),
        "{rest:?}"
    );
}

#[test]
fn an_episode_is_shown_once_it_has_passed_an_age() {
    let night = Night::new("console");
    let watch = Watch::start(&night.database, &["--json", "--above", "1500ms"]);
    let waiter = Waiting::on(&night.database, "SELECT FROM users");
    let started = watch.event("started");
    let duration = started["episode"]["duration"].as_f64().unwrap();
    assert!(duration >= 1.5, "{duration}");
    drop(night.holder);
    watch.event("ended");
    waiter.finish().unwrap();
}

#[test]
fn a_lost_connection_is_opened_again_and_the_episode_goes_on() {
    let night = Night::new("console");
    let watch = Watch::start(&night.database, &[]);
    let first = Waiting::on(&night.database, "SELECT FROM users");
    watch.line("episode 1 started: ");
    let mut admin = night.database.connect();
    let ends =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pglock'";
    admin.batch_execute(ends).unwrap();
    watch.line("connection lost, trying again: ");
    watch.line("connected again");
    let second = Waiting::on(&night.database, "SELECT FROM users");
    let line = watch.line("episode ");
    assert!(line.contains("episode 1 changed: 2 sessions"), "{line}");
    drop(night.holder);
    first.finish().unwrap();
    second.finish().unwrap();
}

#[test]
fn a_reader_that_goes_ends_the_command_although_nothing_happens() {
    let database = Database::new();
    let folder = Folder::new();
    let mut command = folder.command(&["watch", "--above", "1h"]);
    command.env("DATABASE_URL", &database.url);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(line.ends_with("  watching\n"), "{line}");
    drop(out);
    let mut code = None;
    wait_until("the command ends", || {
        code = child.try_wait().unwrap().map(|status| status.code());
        code.is_some()
    });
    assert_eq!(code, Some(Some(0)));
}

#[test]
fn without_a_connection_at_the_start_the_command_fails() {
    let ran = pglock(
        &Database::new(),
        &["watch", "--database-url", "host=/nowhere"],
    );
    assert_eq!(ran.code, 3, "{ran:?}");
    let ran = pglock(&Database::new(), &["watch", "--interval", "1ms"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

/// A stopped session answers nothing, and the kernel takes what is sent to it.
#[cfg(target_os = "linux")]
#[test]
fn a_session_that_never_answers_is_given_up() {
    let night = Night::new("console");
    let watch = Watch::start(&night.database, &["--timeout", "2s"]);
    let mut admin = night.database.connect();
    let session = diesel::dsl::sql::<diesel::sql_types::Integer>(
        "(SELECT pid FROM pg_stat_activity WHERE application_name = 'pglock')",
    );
    let session: i32 =
        diesel::RunQueryDsl::get_result(diesel::select(session), &mut admin).unwrap();
    let send = |signal: &str| {
        let sent = Command::new("kill")
            .args([signal, &session.to_string()])
            .status();
        assert!(sent.unwrap().success());
    };
    send("-STOP");
    watch.line("connection lost, trying again: the server does not answer");
    watch.line("connected again");
    let waiter = Waiting::on(&night.database, "SELECT FROM users");
    watch.line("episode 1 started: ");
    send("-CONT");
    // What was given up ends with its answer.
    wait_until("the session ends", || !is_alive(&mut admin, session));
    drop(night.holder);
    waiter.finish().unwrap();
}
