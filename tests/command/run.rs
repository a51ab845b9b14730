//! `pglock run`.

use std::fs;
use std::process::{Child, Command, Stdio};

use diesel_pglock::prelude::*;

use super::{Folder, Ran, pglock, ran};
use crate::support::{Database, advisory_locks, count, wait_until};

/// A script that waits for a file `go`.
const AWAIT_GO: &str = "until [ -e go ]; do sleep 0.01; done";

/// The session of the lock.
const HOLDER: &str = "FROM pg_stat_activity
    WHERE application_name = 'pglock run job' AND datname = current_database()";

fn run(database: &Database, folder: &Folder, args: &[&str]) -> Ran {
    ran(&mut command(database, folder, args))
}

fn command(database: &Database, folder: &Folder, args: &[&str]) -> Command {
    let mut command = folder.command(&[&["run"], args].concat());
    command.env("DATABASE_URL", &database.url);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn shell(database: &Database, folder: &Folder, script: &str) -> Child {
    let mut command = command(database, folder, &["job", "--", "sh", "-c", script]);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

fn text(folder: &Folder, file: &str) -> String {
    fs::read_to_string(folder.0.join(file)).unwrap_or_default()
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_command_runs_under_the_lock_and_its_code_is_passed_on() {
    let (database, folder) = (Database::new(), Folder::new());
    let ran = run(
        &database,
        &folder,
        &["job", "--", "sh", "-c", "echo done; exit 7"],
    );
    assert_eq!((ran.code, &*ran.out, &*ran.err), (7, "done\n", ""));
    let mut child = shell(&database, &folder, &format!("touch started; {AWAIT_GO}"));
    wait_until("it has started", || folder.0.join("started").exists());
    let mut other = database.connect();
    assert!(other.advisory("job").try_acquire().unwrap().is_none());
    assert_eq!(count(&mut other, &format!("SELECT count(*) {HOLDER}")), 1);
    fs::write(folder.0.join("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(advisory_locks(&mut other), 0);
}

#[test]
fn each_failure_has_its_own_code() {
    let (database, folder) = (Database::new(), Folder::new());
    let code = |args: &[&str]| run(&database, &folder, args).code;
    assert_eq!(code(&["job", "--", "no-such-command"]), 127);
    assert_eq!(code(&["job", "--", "/"]), 126);
    assert_eq!(code(&["job", "--", "sh", "-c", "kill -KILL $$"]), 128 + 9);
    assert_eq!(code(&["", "--", "true"]), 2);
    assert_eq!(code(&["job", "--wait", "0ms", "--", "true"]), 125);
    assert_eq!(code(&["job", "true"]), 2);
    let unreachable = [
        "--database-url",
        "host=/nowhere",
        "run",
        "job",
        "--",
        "true",
    ];
    let ran = pglock(&database, &unreachable);
    assert_eq!(ran.code, 125, "{}", ran.err);
}

#[test]
fn a_busy_lock_is_skipped_or_awaited_for_a_time() {
    let (database, folder) = (Database::new(), Folder::new());
    let mut holder = database.connect();
    let guard = holder.advisory("job").acquire().unwrap();
    let touch = ["--", "touch", "ran"];
    let skipped = run(
        &database,
        &folder,
        &[&["job", "--skip"][..], &touch].concat(),
    );
    assert_eq!(skipped.code, 124);
    assert!(skipped.err.contains("skipped"), "{}", skipped.err);
    let waited = run(
        &database,
        &folder,
        &[&["job", "--wait", "50ms"][..], &touch].concat(),
    );
    assert_eq!(waited.code, 124);
    assert!(waited.err.contains("held by"), "{}", waited.err);
    assert!(!folder.0.join("ran").exists());
    guard.release().unwrap();
    let _shared = holder.advisory("job").shared().acquire().unwrap();
    let shared = [&["job", "--shared", "--skip"][..], &touch].concat();
    assert_eq!(run(&database, &folder, &shared).code, 0);
    assert!(folder.0.join("ran").exists());
}

#[test]
fn each_run_has_a_higher_token() {
    let (database, folder) = (Database::new(), Folder::new());
    let token = || {
        let ran = run(
            &database,
            &folder,
            &["job", "--", "sh", "-c", "echo $PGLOCK_TOKEN"],
        );
        ran.out.trim().parse::<u128>().expect("a token")
    };
    assert!(token() < token());
}

#[test]
fn the_command_gets_a_signal_when_the_lock_is_lost() {
    let (database, folder) = (Database::new(), Folder::new());
    let script =
        "trap 'echo told > told; exit 0' TERM; touch started; while :; do sleep 0.01; done";
    let child = shell(&database, &folder, script);
    wait_until("it has started", || folder.0.join("started").exists());
    database.running(&format!("SELECT pg_terminate_backend(pid) {HOLDER}"));
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(123), "{err}");
    assert!(err.contains("the lock is lost"), "{err}");
    assert_eq!(text(&folder, "told"), "told\n");
}

#[test]
fn a_lock_that_is_gone_at_the_end_is_reported_too() {
    let (database, folder) = (Database::new(), Folder::new());
    let mut child = shell(&database, &folder, &format!("touch started; {AWAIT_GO}"));
    wait_until("it has started", || folder.0.join("started").exists());
    database.running(&format!("SELECT pg_terminate_backend(pid) {HOLDER}"));
    // The monitor polls once a second, and has perhaps not noticed yet.
    fs::write(folder.0.join("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(123));
}

#[test]
fn a_signal_reaches_the_command_and_the_lock_is_kept_until_it_ends() {
    let (database, folder) = (Database::new(), Folder::new());
    let script = format!("trap 'touch told' TERM; touch started; {AWAIT_GO}; exit 3");
    let mut child = shell(&database, &folder, &script);
    wait_until("it has started", || folder.0.join("started").exists());
    signal(child.id(), "-TERM");
    wait_until("it was told", || folder.0.join("told").exists());
    assert_eq!(advisory_locks(&mut database.connect()), 1);
    signal(child.id(), "-INT");
    assert_eq!(advisory_locks(&mut database.connect()), 1);
    fs::write(folder.0.join("go"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(advisory_locks(&mut database.connect()), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn no_command_outlives_a_killed_run() {
    let (database, folder) = (Database::new(), Folder::new());
    let script = "echo $$ > pid.new; mv pid.new pid; exec sleep 600";
    let mut child = shell(&database, &folder, script);
    wait_until("it has started", || folder.0.join("pid").exists());
    let pid = text(&folder, "pid").trim().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    let process = format!("/proc/{pid}/status");
    let is_gone = || fs::read_to_string(&process).map_or(true, |it| it.contains("State:\tZ"));
    wait_until("the command has ended", is_gone);
    wait_until("the lock is free", || {
        advisory_locks(&mut database.connect()) == 0
    });
}

#[test]
fn of_many_processes_at_once_one_runs() {
    let server = pglock_sandbox::Sandbox::builder().setting("max_connections", "130");
    let server = server.start().unwrap();
    let (database, folder) = (Database::on(&server), Folder::new());
    let script = format!("echo ran >> ran; {AWAIT_GO}");
    let args = ["job", "--skip", "--", "sh", "-c", &script];
    let start = || {
        command(&database, &folder, &args)
            .stderr(Stdio::null())
            .spawn()
    };
    let mut children: Vec<Child> = (0..50).map(|_| start().unwrap()).collect();
    wait_until("all but one have ended", || {
        let ended = children.iter_mut().filter_map(|it| it.try_wait().unwrap());
        ended.count() == 49
    });
    fs::write(folder.0.join("go"), "").unwrap();
    let codes = children.into_iter().map(|mut it| it.wait().unwrap().code());
    let mut codes: Vec<_> = codes.map(|code| code.unwrap()).collect();
    codes.sort();
    assert_eq!(codes, [vec![0], vec![124; 49]].concat());
    assert_eq!(text(&folder, "ran"), "ran\n");
}

#[test]
fn processes_that_wait_run_one_after_the_other() {
    let (database, folder) = (Database::new(), Folder::new());
    fs::write(folder.0.join("sum"), "0").unwrap();
    let script = "read sum < sum; sleep 0.01; echo $((sum + 1)) > sum";
    let mut children: Vec<_> = (0..10).map(|_| shell(&database, &folder, script)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(text(&folder, "sum"), "10\n");
}
