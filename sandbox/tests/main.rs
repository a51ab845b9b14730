//! Throwaway servers start, are reachable, and leave nothing behind.

mod support;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pglock_sandbox::{Sandbox, SandboxError};
use support::session::{Session, read_message, startup_packet};
use support::{eventually, is_alive, postmaster};

#[test]
fn a_server_answers_on_its_socket() {
    let server = Sandbox::start().unwrap();
    let version = Session::open(&server)
        .query("SHOW server_version_num")
        .unwrap();
    assert_eq!(version.parse::<u32>().unwrap() / 10_000, server.version());
}

#[test]
fn the_loopback_port_asks_for_the_password() {
    let server = Sandbox::start().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(&startup_packet()).unwrap();
    let (kind, body) = read_message(&mut stream);
    assert_eq!(kind, b'R');
    assert!(body.windows(13).any(|name| name == b"SCRAM-SHA-256"));
}

#[test]
fn two_servers_run_at_once() {
    let (one, two) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    assert_ne!(one.port(), two.port());
    assert_ne!(one.tcp_url_for("x"), two.tcp_url_for("x"));
    for server in [&one, &two] {
        assert_eq!(
            Session::open(server).query("SELECT 1").as_deref(),
            Some("1")
        );
    }
}

#[test]
fn settings_are_applied() {
    let server = Sandbox::builder()
        .setting("max_prepared_transactions", "7")
        .setting("cluster_name", r"it's \n")
        .start()
        .unwrap();
    let mut session = Session::open(&server);
    for (name, value) in [
        ("max_prepared_transactions", "7"),
        ("cluster_name", r"it's \n"),
        ("max_connections", "200"),
        ("fsync", "off"),
        ("listen_addresses", "127.0.0.1"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(
            session.query(&format!("SHOW {name}")).as_deref(),
            Some(value)
        );
    }
}

#[test]
fn dropping_ends_the_sessions_and_removes_everything() {
    let server = Sandbox::start().unwrap();
    let dir = server.socket_dir().to_owned();
    let session = Session::open(&server);
    let pids = [postmaster(&dir), session.pid];
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    drop(server);
    assert!(!dir.exists());
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_restarted_server_has_lost_its_sessions_and_kept_its_data() {
    let server = Sandbox::start().unwrap();
    let (port, before) = (server.port(), postmaster(server.socket_dir()));
    let mut session = Session::open(&server);
    session.query("CREATE TABLE kept AS SELECT 42 AS answer");

    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(postmaster(server.socket_dir()), before);
    assert!(!is_alive(session.pid));
    let kept = Session::open(&server).query("SELECT answer FROM kept");
    assert_eq!(kept.as_deref(), Some("42"));
}

#[test]
fn a_server_that_died_by_itself_can_be_restarted() {
    let server = Sandbox::start().unwrap();
    let pid = postmaster(server.socket_dir());
    signal("QUIT", pid);
    eventually("the server ends", || !is_alive(pid));

    server.restart().unwrap();
    assert!(is_alive(postmaster(server.socket_dir())));
}

#[test]
fn a_killed_owner_takes_its_server_along() {
    let (mut owner, dir) = start_owner();
    let pid = postmaster(&dir);
    assert!(is_alive(pid));

    owner.kill().unwrap(); // SIGKILL
    owner.wait().unwrap();
    eventually("the server ends with its owner", || !is_alive(pid));
    eventually("its directory goes too", || !dir.exists());
}

#[test]
fn an_owner_killed_while_the_server_starts_leaves_nothing_either() {
    let tmp = tempdir();
    let mut owner = owner().env("TMPDIR", &tmp).spawn().unwrap();
    eventually("the directory appears", || !is_empty(&tmp));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the directory goes with its owner", || is_empty(&tmp));
    std::fs::remove_dir(tmp).unwrap();
}

#[test]
fn a_directory_that_was_deleted_keeps_nothing_alive() {
    let (mut owner, dir) = start_owner();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(lives_in(&dir));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("server and supervisor end", || !lives_in(&dir));
}

#[test]
fn a_folder_without_a_server_is_named() {
    let error = Sandbox::builder()
        .bin_dir("/nonexistent")
        .start()
        .unwrap_err();
    assert!(matches!(error, SandboxError::NotAServer(_)));
    assert_eq!(
        error.to_string(),
        "`/nonexistent` does not hold `initdb` and `postgres`"
    );
}

#[test]
fn a_machine_without_a_server_is_told_what_to_install() {
    let message = SandboxError::NotInstalled.to_string();
    for part in [
        "apt-get install postgresql",
        "brew install",
        "PGLOCK_PG_BINDIR",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_server_that_refuses_its_settings_shows_its_log() {
    let error = Sandbox::builder().lc_messages("xx_XX").start().unwrap_err();
    assert!(matches!(error, SandboxError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("xx_XX"), "{error}");
    assert!(error.source().is_none());
}

/// A process of its own that owns a server until its input ends.
fn owner() -> Command {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_pglock-sandbox"));
    owner.stdin(Stdio::piped()).stdout(Stdio::piped());
    owner
}

/// Starts such a process, and returns the directory of its server.
fn start_owner() -> (Child, PathBuf) {
    let mut owner = owner().spawn().unwrap();
    let mut url = String::new();
    BufReader::new(owner.stdout.as_mut().unwrap())
        .read_line(&mut url)
        .unwrap();
    let host = url.split(['@', ':']).nth(2).expect("a URL");
    (owner, PathBuf::from(host.replace("%2F", "/")))
}

/// Whether a process has its working directory there, or where that was.
fn lives_in(dir: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    let cwd = |process: std::fs::DirEntry| std::fs::read_link(process.path().join("cwd"));
    let mut places = processes.filter_map(|process| cwd(process.ok()?).ok());
    let dir = dir.to_str().unwrap();
    places.any(|place| place.to_string_lossy().starts_with(dir))
}

fn signal(name: &str, pid: u32) {
    let command = format!("kill -{name} {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success()
    );
}

/// A folder, writable for all as `/tmp` is, that no other test looks into.
fn tempdir() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = std::env::temp_dir().join(format!("pglock-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
    dir
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}
