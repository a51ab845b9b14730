//! Shared helpers: a server, fresh databases, sessions, and waiting for a condition.

mod chance;
mod proxy;
mod standby;
mod waiting;

pub use chance::{Chance, seed};
pub use proxy::{Network, Proxy};
pub use standby::{await_replay, standby_of};
pub use waiting::{HOLD_INSERTIONS, INSERTION, Waiting};

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use pglock_sandbox::Sandbox;

/// The limit for a condition to come true, before the test fails.
const LIMIT: Duration = Duration::from_secs(30);

/// The server that all tests share; it dies with the process.
pub fn server() -> &'static Sandbox {
    static SERVER: OnceLock<Sandbox> = OnceLock::new();
    // A test whose statement waits for ever fails, rather than hanging with it.
    let start = || {
        Sandbox::builder()
            .setting("statement_timeout", "60s")
            .start()
    };
    SERVER.get_or_init(|| start().expect("a throwaway server"))
}

/// Reports that a test did not run, past the capture of the output of tests.
pub fn skipped(test: &str, install: &str) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {test}: install {install}, or let `cargo xtask test` do it as root on Debian"
    );
}

/// Counts the statements of a session that the server has logged.
pub fn logged(pid: i32) -> usize {
    let log = std::fs::read(server().log_file()).expect("the server's log");
    let session = format!("[{pid}] LOG:  ");
    let of_session = String::from_utf8_lossy(&log);
    let messages = of_session
        .lines()
        .filter_map(|line| line.split_once(&session));
    messages
        .filter(|(_, message)| {
            message.starts_with("statement: ") || message.starts_with("execute ")
        })
        .count()
}

/// A fresh database with a table `users`, so that no test sees another's locks.
pub struct Database {
    pub url: String,
    pub name: String,
}

impl Database {
    pub fn new() -> Self {
        Self::on(server())
    }

    /// Creates a database on a test's own server.
    pub fn on(server: &Sandbox) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::establish(&server.url()).expect("the server");
        sql_query(format!("CREATE DATABASE {name}"))
            .execute(&mut admin)
            .expect("a database");
        let database = Self::in_place(server.url_for(&name), &name);
        database
            .connect()
            .batch_execute(
                "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
                 CREATE TABLE posts (id serial PRIMARY KEY, user_id int, title text);
                 INSERT INTO users (name) VALUES ('Sean'), ('Tess')",
            )
            .expect("the tables");
        // That session takes a moment to end, and tests count sessions.
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
        wait_until("the database is left", || count(&mut admin, &sessions) == 0);
        database
    }

    /// Returns a database that exists already, and stays empty.
    pub fn in_place(url: String, name: &str) -> Self {
        Self {
            url,
            name: name.to_owned(),
        }
    }

    /// Returns the URL of the database through the loopback port, with this password.
    pub fn tcp_url_with_password(&self, password: &str) -> String {
        let (port, name) = (server().port(), &self.name);
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{name}")
    }

    /// Opens a session.
    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).expect("a session")
    }

    /// Opens a session that has run some statements, and holds their locks until it is dropped.
    pub fn running(&self, statements: &str) -> PgConnection {
        let mut conn = self.connect();
        conn.batch_execute(statements).expect(statements);
        conn
    }

    /// Returns the URL for a role with rights on the tables only.
    pub fn role_url(&self) -> String {
        let role = format!("{}_role", self.name);
        self.running(&format!(
            "CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        ));
        self.url.replacen("postgres@", &format!("{role}@"), 1)
    }
}

diesel::table! {
    users { id -> Integer, name -> Text, }
}

diesel::table! {
    posts { id -> Integer, user_id -> Nullable<Integer>, title -> Nullable<Text>, }
}

diesel::allow_tables_to_appear_in_same_query!(users, posts);

/// Waits for a condition on the server; fails the test if it does not come true.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the session's process id.
pub fn pid(conn: &mut PgConnection) -> i32 {
    diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>(
        "pg_backend_pid()",
    ))
    .get_result(conn)
    .expect("a pid")
}

/// Waits until the session `pid` waits for a lock.
#[track_caller]
pub fn wait_until_blocked(observer: &mut PgConnection, pid: i32) {
    wait_until(&format!("session {pid} waits for a lock"), || {
        is_blocked(observer, pid)
    });
}

/// Returns true if the session `pid` waits for a lock.
pub fn is_blocked(observer: &mut PgConnection, pid: i32) -> bool {
    let waiting = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    count(observer, &waiting) > 0
}

/// Returns true if the session `pid` still exists.
pub fn is_alive(observer: &mut PgConnection, pid: i32) -> bool {
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    count(observer, &sessions) == 1
}

/// Counts the advisory locks that sessions of this database hold or wait for.
const ADVISORY_LOCKS: &str = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
     WHERE locktype = 'advisory' AND d.datname = current_database()";

/// The first half of the key by which watchers mark prioritized sessions.
const MARK_CLASS: u32 = 3_624_561_888;

/// Counts the advisory locks that sessions of this database hold or wait for.
///
/// The marks of prioritized sessions do not count: they belong to watchers.
pub fn advisory_locks(conn: &mut PgConnection) -> i64 {
    let others = format!("{ADVISORY_LOCKS} AND (classid, objsubid) <> ({MARK_CLASS}, 2)");
    count(conn, &others)
}

/// Counts the marks of prioritized sessions that the watchers in this database hold.
pub fn marks(conn: &mut PgConnection) -> i64 {
    let marks = format!("{ADVISORY_LOCKS} AND (classid, objsubid) = ({MARK_CLASS}, 2)");
    count(conn, &marks)
}

/// Runs a query that returns one number.
pub fn count(conn: &mut PgConnection, query: &str) -> i64 {
    diesel::select(number(query))
        .get_result(conn)
        .expect("a number")
}

/// Returns the expression of a query that returns one number.
pub fn number(query: &str) -> SqlLiteral<BigInt> {
    sql(&format!("({query})::bigint"))
}

/// Returns the value of a setting of this session.
pub fn setting(conn: &mut PgConnection, name: &str) -> String {
    diesel::select(current_setting(name))
        .get_result(conn)
        .expect("a setting")
}

/// Returns the expression of the value of a setting.
pub fn current_setting(name: &str) -> SqlLiteral<Text> {
    sql(&format!("current_setting('{name}')"))
}
