//! The built command `pglock`, against a real server.

mod config;
mod list;
mod lock_types;
mod log;
mod manual;
mod migrate;
mod night;
mod page;
mod plan;
mod report;
#[cfg(unix)]
mod run;
mod scene;
mod schema;
mod secrets;
mod terminal;
mod top;
mod tree;
pub mod watch;
mod who;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use crate::support::{Database, pid, wait_until_blocked};

/// The exit code and the output of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder of its own for a run, without other files.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pglock-command-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn with(self, file: &str, text: &str) -> Self {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        self
    }

    /// Returns the command with an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pglock"));
        command.args(args).current_dir(&self.0);
        command
            .env_clear()
            .env("HOME", &self.0)
            .env("TERM", "xterm-256color");
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the command");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs the command on a database.
pub fn pglock(database: &Database, args: &[&str]) -> Ran {
    let folder = Folder::new();
    ran(folder.command(args).env("DATABASE_URL", &database.url))
}

/// A session that holds a lock on `users`, and a session that waits for one.
pub struct Jam {
    pub database: Database,
    pub holder: PgConnection,
    pub holder_pid: i32,
    pub waiter_pid: i32,
    pub waiter: std::thread::JoinHandle<diesel::QueryResult<()>>,
}

impl Jam {
    pub fn new() -> Self {
        Self::between(Database::new(), "holder", "waiter")
    }

    pub fn between(database: Database, holder_name: &str, waiter_name: &str) -> Self {
        let mut holder = named(&database, holder_name);
        let mut waiter = named(&database, waiter_name);
        let (holder_pid, waiter_pid) = (pid(&mut holder), pid(&mut waiter));
        let update = "UPDATE users SET name = 'held' WHERE id = 1";
        holder.batch_execute("BEGIN").expect("a transaction");
        holder.batch_execute(update).expect("an update");
        let waiter = std::thread::spawn(move || {
            waiter.batch_execute("ALTER TABLE users ADD COLUMN age int")
        });
        wait_until_blocked(&mut database.connect(), waiter_pid);
        Self {
            database,
            holder,
            holder_pid,
            waiter_pid,
            waiter,
        }
    }

    /// Ends the holder, and returns the result of the waiter.
    pub fn end(self) -> diesel::QueryResult<()> {
        drop(self.holder);
        self.waiter.join().expect("no panic")
    }
}

pub fn named(database: &Database, name: &str) -> PgConnection {
    let mut conn = database.connect();
    let name = name.replace('\'', "''");
    conn.batch_execute(&format!("SET application_name = '{name}'"))
        .expect("a name");
    conn
}
