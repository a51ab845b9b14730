//! The command in a pseudo-terminal, and its screen.

use std::io::{Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};

use diesel::connection::SimpleConnection;

use super::{Folder, Jam, named};
use crate::support::Database;

pub const LIMIT: Duration = Duration::from_secs(30);

/// A terminal with a command in it.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    bytes: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// The raw output, with its escape sequences.
    pub raw: String,
    _folder: Folder,
}

impl Terminal {
    pub fn start(database: &Database, args: &[&str], (rows, columns): (u16, u16)) -> Self {
        Self::with(database, args, (rows, columns), &[])
    }

    pub fn with(
        database: &Database,
        args: &[&str],
        size: (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let program = env!("CARGO_BIN_EXE_pglock");
        Self::run(database, program, args, size, variables)
    }

    /// Runs a shell script, in which `$PGLOCK` is the command.
    pub fn shell(
        database: &Database,
        script: &str,
        size: (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let command = env!("CARGO_BIN_EXE_pglock");
        let variables = [variables, &[("PATH", &path), ("PGLOCK", command)]].concat();
        Self::run(database, "/bin/sh", &["-c", script], size, &variables)
    }

    fn run(
        database: &Database,
        program: &str,
        args: &[&str],
        (rows, columns): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = Folder::new();
        let (pty, pts) = open().expect("a pseudo-terminal");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let child = Command::new(program)
            .args(args)
            .current_dir(&folder.0)
            .env_clear()
            .envs([
                ("HOME", "/"),
                ("TERM", "xterm-256color"),
                ("DATABASE_URL", &database.url),
            ])
            .envs(variables.iter().copied())
            .spawn(pts)
            .expect("the command");
        let pty = Arc::new(pty);
        let (sender, bytes) = channel();
        let reader = Arc::clone(&pty);
        // The thread ends with the command, because the read fails then.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = (&*reader).read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let parser = vt100::Parser::new(rows, columns, 1000);
        Self {
            pty,
            child,
            bytes,
            parser,
            raw: String::new(),
            _folder: folder,
        }
    }

    pub fn type_(&self, keys: &str) {
        (&*self.pty)
            .write_all(keys.as_bytes())
            .expect("a terminal to type in");
    }

    /// Returns the text of the screen.
    pub fn screen(&self) -> String {
        self.parser.screen().contents()
    }

    pub fn state(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Reads until the screen meets the condition.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, shows: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !shows(&self.screen()) {
            let left = LIMIT.saturating_sub(started.elapsed());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => panic!("{what}: {error}: {}", self.screen()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.raw += &String::from_utf8_lossy(bytes);
    }

    /// Reads to the end, and returns the exit code, or 130 for a signal.
    pub fn end(&mut self) -> i32 {
        while let Ok(bytes) = self.bytes.recv_timeout(LIMIT) {
            self.take(&bytes);
        }
        let status = self.child.wait().expect("the command");
        status.code().unwrap_or(130)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_prompt_lists_the_targets_and_no_is_the_default() {
    let jam = Jam::new();
    let args = ["--blocking", "--on", "users", "--terminate"];
    for (answer, code) in [("\n", 1), ("n\n", 1), ("yes\n", 0)] {
        let mut terminal = Terminal::start(&jam.database, &args, (24, 80));
        terminal.wait_for("a prompt", |screen| screen.contains("[y/N]"));
        let screen = terminal.screen();
        assert!(screen.contains("Terminate 1 session?"), "{screen}");
        assert!(
            screen.contains(&format!("{}  holder", jam.holder_pid)),
            "{screen}"
        );
        terminal.type_(answer);
        assert_eq!(terminal.end(), code, "{}", terminal.screen());
    }
    jam.waiter.join().unwrap().expect("the waiter has its lock");
}

#[test]
fn an_interrupt_at_the_prompt_signals_no_session() {
    let jam = Jam::new();
    let args = ["--blocking", "--on", "users", "--terminate"];
    let mut terminal = Terminal::start(&jam.database, &args, (24, 80));
    terminal.wait_for("a prompt", |screen| screen.contains("[y/N]"));
    terminal.type_("\u{3}");
    assert_eq!(terminal.end(), 130);
    jam.end().expect("no session was terminated");
}

#[test]
fn a_table_with_hostile_texts_fits_the_terminal() {
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n漢字e\u{301}\u{301}\u{301}\u{202e}";
    let database = Database::new();
    let mut conn = named(&database, "x");
    conn.batch_execute("BEGIN; LOCK users").unwrap();
    conn.batch_execute("SET application_name = E'\\x1b[2J\\x1b]0;owned\\x07'")
        .unwrap();
    conn.batch_execute(&format!("SELECT 1 /* {} */", hostile.repeat(2000)))
        .unwrap();
    for columns in [30, 80, 131] {
        let mut terminal = Terminal::start(&database, &["--on", "users"], (24, columns));
        assert_eq!(terminal.end(), 0, "{}", terminal.screen());
        let screen = terminal.screen();
        // A line that is too wide would wrap into the next.
        let lines: Vec<&str> = screen.lines().filter(|line| !line.is_empty()).collect();
        assert!(
            lines.len() == 2 || lines.len() == 3 && lines[2].starts_with("columns that do"),
            "{screen}"
        );
        assert!(screen.starts_with("PID"), "{screen}");
        assert!(
            !terminal.raw.contains("\u{1b}]"),
            "the title was changed: {screen}"
        );
    }
}

#[test]
fn colour_needs_a_terminal_and_can_be_disabled() {
    let jam = Jam::new();
    for (variables, coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let mut terminal = Terminal::with(&jam.database, &["--on", "users"], (24, 80), variables);
        assert_eq!(terminal.end(), 0);
        assert_eq!(
            terminal.raw.contains("\u{1b}["),
            coloured,
            "{:?}",
            terminal.raw
        );
    }
    jam.end().unwrap();
}
