//! `pglock top`: keys, and the screen.

use std::io::Read;
use std::thread::sleep;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use pty_process::Size;
use pty_process::blocking::{Command, open};

use super::scene::Scene;
use super::terminal::{LIMIT, Terminal};
use super::{Jam, pglock};
use crate::support::{Database, count, wait_until};

const SIZE: (u16, u16) = (30, 120);

/// Returns a jam with a name of its own: the view covers the whole server.
fn jam() -> (Jam, String) {
    let name = format!("top-{}", std::process::id());
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("{name}-{number}");
    let jam = Jam::between(Database::new(), &format!("{name}-h"), &format!("{name}-w"));
    (jam, name)
}

/// Starts the view, filtered to the sessions of the jam.
fn top(jam: &Jam, name: &str, args: &[&str]) -> Terminal {
    let args = [&["top"], args].concat();
    let mut terminal = Terminal::start(&jam.database, &args, SIZE);
    terminal.wait_for("the view", |screen| screen.contains("WAITS FOR"));
    terminal.type_(&format!("/{name}"));
    terminal.wait_for("a filter", |screen| screen.contains(&format!("/{name}_")));
    terminal.type_("\r");
    let pids = [jam.holder_pid, jam.waiter_pid].map(|pid| pid.to_string());
    terminal.wait_for("the jam", |screen| {
        let is_filtered = screen.contains("(1 shown)") || screen.contains(" 1 waiting behind");
        is_filtered && pids.iter().all(|pid| screen.contains(pid))
    });
    terminal
}

#[test]
fn the_view_shows_sessions_a_query_and_the_tree() {
    let (jam, name) = jam();
    let mut terminal = top(&jam, &name, &[]);
    let screen = terminal.screen();
    let lines: Vec<&str> = screen.lines().collect();
    assert!(
        lines[2].starts_with(&jam.holder_pid.to_string()),
        "{screen}"
    );
    assert!(lines[2].contains("idle in transaction"), "{screen}");
    assert!(lines[3].contains("AccessExclusiveLock"), "{screen}");
    assert!(
        screen.contains(&format!("Query of {}", jam.holder_pid)),
        "{screen}"
    );

    terminal.type_("\u{1b}[B");
    terminal.wait_for("the next", |screen| {
        screen.contains(&format!("Query of {}", jam.waiter_pid))
    });
    let screen = terminal.screen();
    assert!(
        screen.contains("│ALTER TABLE users ADD COLUMN age int"),
        "{screen}"
    );
    terminal.type_("s");
    terminal.wait_for("another order", |screen| screen.contains("by blocks"));
    assert!(
        terminal
            .screen()
            .lines()
            .nth(2)
            .unwrap()
            .starts_with(&jam.holder_pid.to_string())
    );
    terminal.type_("t");
    terminal.wait_for("the tree", |screen| screen.contains("┌Tree"));
    terminal.type_("?");
    terminal.wait_for("help", |screen| screen.contains("terminate the session"));
    terminal.type_(" ");
    terminal.wait_for("no help", |screen| {
        !screen.contains("terminate the session")
    });
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.state().alternate_screen() && !terminal.state().hide_cursor());
    jam.end().unwrap();
}

#[test]
fn a_session_is_terminated_after_a_confirmation() {
    let (jam, name) = jam();
    let mut terminal = top(&jam, &name, &[]);
    terminal.type_("x");
    let question = format!("{}  {name}-h", jam.holder_pid);
    let asks = |screen: &str| screen.contains("Terminate 1 session?") && screen.contains(&question);
    terminal.wait_for("a question", asks);
    terminal.type_("n");
    terminal.wait_for("a refusal", |screen| screen.contains("nothing was done"));
    terminal.type_("x");
    terminal.wait_for("a question", asks);
    terminal.type_("y");
    let sent = format!("{} ended; 1 session goes on", jam.holder_pid);
    terminal.wait_for("the outcome", |screen| screen.contains(&sent));
    let waiter = jam.waiter_pid.to_string();
    terminal.wait_for("no jam", |screen| !screen.contains(&waiter));
    terminal.type_("\u{3}");
    assert_eq!(terminal.end(), 0);
    jam.waiter.join().unwrap().expect("the waiter has its lock");
}

#[test]
fn a_query_is_cancelled_after_a_confirmation() {
    let (jam, name) = jam();
    let mut terminal = top(&jam, &name, &[]);
    terminal.type_("jc");
    terminal.wait_for("a question", |screen| {
        screen.contains("Cancel the query of 1 session?")
    });
    terminal.type_("y");
    let sent = format!("{} ended", jam.waiter_pid);
    terminal.wait_for("the outcome", |screen| screen.contains(&sent));
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
    assert!(jam.end().is_err(), "the waiter's query was cancelled");
}

#[test]
fn a_lost_connection_is_reported_and_opened_again() {
    let (jam, name) = jam();
    let mut terminal = top(&jam, &name, &["--interval", "200ms"]);
    // From another database, because this one accepts no connections.
    let mut admin = Database::new().connect();
    let database = &jam.database.name;
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {database} ALLOW_CONNECTIONS false"
        ))
        .unwrap();
    let ends = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pglock' AND datname = '{database}'"
    );
    admin.batch_execute(&ends).unwrap();
    terminal.wait_for("a loss", |screen| {
        screen.contains("connection lost, trying again:")
    });
    assert!(
        terminal.screen().contains(&jam.waiter_pid.to_string()),
        "the last snapshot stays"
    );
    admin
        .batch_execute(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"))
        .unwrap();
    terminal.wait_for("a connection", |screen| screen.contains("pglock top: "));
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
    jam.end().unwrap();
}

#[test]
fn the_terminal_is_restored_at_the_end() {
    let database = Database::new();
    let script = "stty -g; sh -c 'echo pid $$; exec \"$PGLOCK\" top'; echo code $?; stty -g";
    let same = |terminal: &Terminal| {
        let screen = terminal.screen();
        let modes: Vec<&str> = screen
            .lines()
            .filter(|line| line.matches(':').count() > 10)
            .collect();
        assert_eq!(modes.len(), 2, "{screen}");
        assert_eq!(modes[0], modes[1], "{screen}");
        assert!(!terminal.state().alternate_screen() && !terminal.state().hide_cursor());
    };
    let size = (30, 200);
    let mut quit = Terminal::shell(&database, script, size, &[]);
    quit.wait_for("the view", |screen| screen.contains("WAITS FOR"));
    quit.type_("q");
    quit.end();
    assert!(quit.screen().contains("code 0"), "{}", quit.screen());
    same(&quit);

    let mut panicked = Terminal::shell(&database, script, size, &[("PGLOCK_TEST_PANIC", "1")]);
    panicked.end();
    assert!(
        panicked.screen().contains("a panic was requested"),
        "{}",
        panicked.screen()
    );
    assert!(
        panicked.screen().contains("code 101"),
        "{}",
        panicked.screen()
    );
    same(&panicked);

    let mut killed = Terminal::shell(&database, script, size, &[]);
    killed.wait_for("the view", |screen| screen.contains("WAITS FOR"));
    let mut admin = database.connect();
    let (_, after) = killed.raw.split_once("pid ").expect("its pid");
    let kill = format!("kill -TERM {}", after.lines().next().unwrap().trim());
    let status = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(status.expect("a shell").success());
    killed.end();
    assert!(killed.screen().contains("code 0"), "{}", killed.screen());
    same(&killed);
    let connected = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pglock' AND datname = '{}'",
        database.name
    );
    wait_until("its connections are gone", || {
        count(&mut admin, &connected) == 0
    });
}

#[test]
fn the_view_ends_when_its_terminal_is_closed() {
    let database = Database::new();
    let (mut pty, pts) = open().unwrap();
    pty.resize(Size::new(SIZE.0, SIZE.1)).unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_pglock")).arg("top");
    let command = command.env("DATABASE_URL", &database.url);
    let mut top = command.env("TERM", "xterm").spawn(pts).unwrap();
    let (mut screen, mut buffer) = (String::new(), [0; 4096]);
    while !screen.contains("quit") {
        let length = pty.read(&mut buffer).unwrap();
        screen += &String::from_utf8_lossy(&buffer[..length]);
    }
    drop(pty);
    let started = Instant::now();
    while top.try_wait().unwrap().is_none() && started.elapsed() < LIMIT {
        sleep(Duration::from_millis(10));
    }
    let ended = top.try_wait().unwrap().is_some();
    let _ = top.kill();
    assert!(ended, "the view continued without a terminal");
}

#[test]
fn the_view_needs_a_terminal_and_a_connection() {
    let ran = pglock(&Database::new(), &["top"]);
    assert_eq!(
        (ran.code, &*ran.err),
        (2, "pglock: `pglock top` needs a terminal\n")
    );
    let args = ["top", "--database-url", "host=127.0.0.1 port=1"];
    let mut terminal = Terminal::start(&Database::new(), &args, SIZE);
    assert_eq!(terminal.end(), 3, "{}", terminal.screen());
}

#[test]
fn hostile_texts_do_not_break_the_view() {
    let (jam, name) = jam();
    let mut hostile = super::named(&jam.database, "x");
    hostile
        .batch_execute(&format!("SET application_name = E'{name}\\x1b[2J\\r\\nx'"))
        .unwrap();
    let pid = crate::support::pid(&mut hostile);
    let text = "\u{1b}]0;owned\u{7}\u{1b}[2J漢e\u{301}\u{301}\u{301}\u{202e}\n".repeat(2000);
    let waits = std::thread::spawn(move || {
        hostile.batch_execute(&format!("SELECT 1 FROM users /* {text} */"))
    });
    crate::support::wait_until_blocked(&mut jam.database.connect(), pid);
    let mut terminal = Terminal::start(&jam.database, &["top"], (40, 100));
    terminal.type_(&format!("/{name}\r"));
    terminal.wait_for("all three", |screen| {
        screen.contains("pglock top: ") && screen.contains(&pid.to_string())
    });
    terminal.type_("t");
    terminal.wait_for("the tree", |screen| screen.contains("┌Tree"));
    assert!(
        !terminal.raw.contains("\u{1b}]0;owned"),
        "the title was changed"
    );
    assert!(
        terminal.screen().starts_with("pglock top"),
        "{}",
        terminal.screen()
    );
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
    jam.end().unwrap();
    waits.join().unwrap().unwrap();
}

#[test]
fn the_cursor_is_on_the_worst_root() {
    let scene = Scene::new();
    let mut terminal = Terminal::start(&scene.database, &["top"], (24, 80));
    let count = "pglock top: 40 waiting behind 5 roots";
    terminal.wait_for("the waits", |screen| screen.contains(count));
    let screen = terminal.screen();
    let roots: Vec<&str> = screen.lines().skip(2).take(5).collect();
    assert!(roots[0].starts_with(&scene.report.to_string()), "{screen}");
    for root in scene.roots() {
        let is_root = |line: &&str| line.starts_with(&root.to_string());
        assert!(roots.iter().any(is_root), "{screen}");
    }
    assert!(
        roots.iter().any(|line| line.contains("order 7")),
        "{screen}"
    );
    assert!(screen.lines().nth(1).unwrap().contains("QUERY"), "{screen}");

    terminal.type_("x");
    let question = format!("{}  report", scene.report);
    terminal.wait_for("a question", |screen| {
        screen.contains(&question) && screen.contains("31 sessions wait behind it; its transaction")
    });
    terminal.type_("y");
    let left = "pglock top: 9 waiting behind 4 roots";
    terminal.wait_for("the others", |screen| screen.contains(left));
    assert!(!scene.is_alive(scene.report));
    let next = format!("Query of {}", scene.console);
    terminal.wait_for("the next root", |screen| screen.contains(&next));

    // Marks, and the key that clears them.
    terminal.type_("  x");
    terminal.wait_for("a question", |screen| {
        screen.contains("Terminate 2 sessions?")
    });
    terminal.type_("n\u{1b}");
    terminal.wait_for("the worst root", |screen| screen.contains(&next));
    terminal.type_("/worker\r");
    terminal.wait_for("a filter", |screen| screen.contains("waiting (0 shown)"));
    terminal.type_("\u{1b}");
    terminal.wait_for("all again", |screen| screen.contains(left));
    terminal.type_("p");
    terminal.wait_for("a pause", |screen| screen.contains("paused"));
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_narrow_view_leaves_out_the_least_important_columns() {
    let (jam, name) = jam();
    let mut terminal = Terminal::start(&jam.database, &["top"], (20, 60));
    terminal.type_(&format!("/{name}\r"));
    let waiter = jam.waiter_pid.to_string();
    terminal.wait_for("the jam", |screen| screen.contains(&waiter));
    let screen = terminal.screen();
    let titles = screen.lines().nth(1).unwrap();
    let is_shown = |title: &str| titles.contains(title);
    assert!(
        ["PID", "BLOCKS", "WAIT", "TX AGE", "QUERY"].map(is_shown) == [true; 5],
        "{screen}"
    );
    assert!(
        !is_shown("USER") && screen.contains("ALTER TABLE us"),
        "{screen}"
    );
    terminal.type_("q");
    assert_eq!(terminal.end(), 0);
    jam.end().unwrap();
}

#[test]
fn activity_that_is_hidden_from_the_role_is_hinted_at() {
    let (jam, _) = jam();
    let plain = Database::in_place(jam.database.role_url(), &jam.database.name);
    for (database, is_hinted) in [(&plain, true), (&jam.database, false)] {
        let mut terminal = Terminal::start(database, &["top"], (24, 80));
        let hint = "; pg_read_all_stats would show more";
        terminal.wait_for("the head", |screen| {
            let head = screen.lines().next().unwrap_or_default();
            head.contains(" waiting behind ")
                && !head.contains(" 0 waiting")
                && head.ends_with(hint) == is_hinted
        });
        terminal.type_("q");
        assert_eq!(terminal.end(), 0);
        let overview = pglock(database, &[]);
        assert_eq!(
            overview.err.contains("pg_read_all_stats"),
            is_hinted,
            "{overview:?}"
        );
    }
    jam.end().unwrap();
}
