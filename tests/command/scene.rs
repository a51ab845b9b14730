//! A night on a server of its own: several roots, long queues, a deadlock, two databases.

use std::thread::JoinHandle;

use diesel::PgConnection;
use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use pglock_sandbox::Sandbox;

use super::named;
use crate::support::{Database, pid, wait_until, wait_until_blocked};

/// The server, its sessions, and what each of them waits for.
///
/// One session waits for the prepared transaction `order 7`.
pub struct Scene {
    pub database: Database,
    /// Idle in a transaction, with a changed row of `users`; three updates wait in a queue.
    pub console: i32,
    /// A long SELECT of `posts`; an ALTER waits for it, and 30 readers wait behind that.
    pub report: i32,
    /// The ALTER.
    pub deploy: i32,
    /// An idle session with an advisory lock that two sessions await.
    pub worker: i32,
    /// A session of another database, which one session waits for.
    pub elsewhere: i32,
    /// Two sessions that wait for each other.
    pub deadlock: [i32; 2],
    holders: Vec<(i32, PgConnection)>,
    waiters: Vec<(i32, JoinHandle<QueryResult<()>>)>,
    _server: Sandbox,
}

impl Scene {
    pub fn new() -> Self {
        let server = Sandbox::start().unwrap();
        let database = Database::on(&server);
        let other = Database::on(&server);
        let mut scene = Self {
            console: 0,
            report: 0,
            deploy: 0,
            worker: 0,
            elsewhere: 0,
            deadlock: [0, 0],
            holders: Vec::new(),
            waiters: Vec::new(),
            database,
            _server: server,
        };
        let update = "UPDATE users SET name = 'x' WHERE id = 1";
        scene.console = scene.hold("console", &format!("BEGIN; {update}"));
        scene.wait_often(3, "update", update);
        scene.report = scene.hold("report", "BEGIN; SELECT FROM posts");
        scene.deploy = scene.wait("deploy", "ALTER TABLE posts ADD COLUMN i int");
        scene.wait_often(30, "reader", "SELECT FROM posts");
        scene.worker = scene.hold("worker", "SELECT pg_advisory_lock(7)");
        scene.wait_often(2, "job", "SELECT pg_advisory_xact_lock(7)");
        let prepare = "BEGIN; SELECT pg_advisory_xact_lock(8); PREPARE TRANSACTION 'order 7'";
        scene.hold("orders", prepare);
        scene.wait("orders", "SELECT pg_advisory_xact_lock(8)");
        scene.elsewhere = scene.hold_in(&other, "elsewhere", "BEGIN; LOCK users");
        scene.wait_in(&other, "elsewhere", "SELECT FROM users");
        scene.close_a_cycle();
        scene
    }

    fn hold(&mut self, name: &str, sql: &str) -> i32 {
        let mut conn = named(&self.database, name);
        conn.batch_execute(sql).unwrap();
        self.keep(conn)
    }

    fn hold_in(&mut self, database: &Database, name: &str, sql: &str) -> i32 {
        let mut conn = named(database, name);
        conn.batch_execute(sql).unwrap();
        self.keep(conn)
    }

    fn keep(&mut self, mut conn: PgConnection) -> i32 {
        let pid = pid(&mut conn);
        self.holders.push((pid, conn));
        pid
    }

    fn wait(&mut self, name: &str, sql: &str) -> i32 {
        let conn = named(&self.database, name);
        self.start(conn, sql)
    }

    fn wait_often(&mut self, times: usize, name: &str, sql: &str) {
        for _ in 0..times {
            self.wait(name, sql);
        }
    }

    fn wait_in(&mut self, database: &Database, name: &str, sql: &str) -> i32 {
        self.start(named(database, name), sql)
    }

    fn start(&mut self, mut conn: PgConnection, sql: &str) -> i32 {
        let (pid, sql) = (pid(&mut conn), sql.to_owned());
        let thread = std::thread::spawn(move || conn.batch_execute(&sql));
        wait_until_blocked(&mut self.database.connect(), pid);
        self.waiters.push((pid, thread));
        pid
    }

    fn close_a_cycle(&mut self) {
        let begin = "SET deadlock_timeout = '1h'; BEGIN; SELECT pg_advisory_xact_lock";
        let [mut a, mut b] = ["left", "right"].map(|name| named(&self.database, name));
        a.batch_execute(&format!("{begin}(1)")).unwrap();
        b.batch_execute(&format!("{begin}(2)")).unwrap();
        let a = self.start(a, "SELECT pg_advisory_xact_lock(2); COMMIT");
        let b = self.start(b, "SELECT pg_advisory_xact_lock(1); COMMIT");
        self.deadlock = [a, b];
    }

    /// Returns the roots that are sessions.
    pub fn roots(&self) -> [i32; 4] {
        [self.report, self.console, self.worker, self.elsewhere]
    }

    /// Returns whether a session still exists.
    pub fn is_alive(&self, pid: i32) -> bool {
        crate::support::is_alive(&mut self.database.connect(), pid)
    }

    /// Waits until no session waits but those of the deadlock and of the prepared transaction.
    pub fn await_the_rest(&self) {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let mut observer = self.database.connect();
        wait_until("the others go on", || {
            crate::support::count(&mut observer, waiting) == 3
        });
    }
}
