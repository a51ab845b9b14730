//! A session that waits for a lock in a thread of its own.

use std::thread::{JoinHandle, spawn};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;

use super::{Database, pid, wait_until_blocked};

pub struct Waiting {
    pub pid: i32,
    thread: JoinHandle<QueryResult<()>>,
}

impl Waiting {
    /// Runs the statements in a session of its own and returns once it waits.
    #[track_caller]
    pub fn on(db: &Database, sql: &str) -> Self {
        let mut conn = db.connect();
        let (pid, sql) = (pid(&mut conn), sql.to_owned());
        let thread = spawn(move || conn.batch_execute(&sql));
        wait_until_blocked(&mut db.connect(), pid);
        Self { pid, thread }
    }

    /// Waits for the end of the statements.
    pub fn finish(self) -> QueryResult<()> {
        self.thread.join().expect("no panic")
    }
}

/// Makes each [`INSERTION`] stop in the middle while this session holds the lock: it has put the row
/// into the first index, and evaluates the expression of the second.
pub const HOLD_INSERTIONS: &str = "CREATE FUNCTION slow(i int) RETURNS int IMMUTABLE
     LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN i; END';
     CREATE TABLE keys (i int);
     CREATE UNIQUE INDEX ON keys (i);
     CREATE INDEX ON keys (slow(i));
     SELECT pg_advisory_lock(77)";

/// A speculative insertion.
pub const INSERTION: &str = "INSERT INTO keys VALUES (1) ON CONFLICT (i) DO NOTHING";
