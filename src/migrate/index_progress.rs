//! The progress of an index that a migration builds.

use std::fmt;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use crate::session::query;

/// The progress of a migration outside a transaction that builds an index, or rewrites or vacuums
/// a table.
///
/// From the server's [progress reports][pg]. `Display` shows it in one line.
///
/// [pg]: https://www.postgresql.org/docs/current/progress-reporting.html
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationProgress {
    /// The name of the migration.
    pub name: String,
    /// The command, such as `CREATE INDEX CONCURRENTLY`.
    pub command: String,
    /// The phase, such as `building index: scanning table`.
    pub phase: String,
    /// The units of the phase that are done: sessions, blocks or rows.
    pub done: i64,
    /// The units of the phase; 0 if unknown.
    pub total: i64,
    /// The session whose transaction the command waits for.
    pub current_locker_pid: Option<i32>,
}

impl fmt::Display for MigrationProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.command, self.phase)?;
        if self.total > 0 {
            write!(f, ": {} of {}", self.done, self.total)?;
        }
        match self.current_locker_pid {
            Some(pid) => write!(f, ", waits for the transaction of pid {pid}"),
            None => Ok(()),
        }
    }
}

/// The command, the phase, what is done of how much, and the session that is waited for.
pub(super) type Row = (String, String, i64, i64, Option<i32>);

impl MigrationProgress {
    pub(super) fn of(name: &str, row: Row) -> Self {
        let (command, phase, done, total, current_locker_pid) = row;
        Self {
            name: name.to_owned(),
            command,
            phase,
            done,
            total,
            current_locker_pid,
        }
    }
}

/// Reads the progress of a session.
#[derive(Debug)]
pub(super) struct ProgressOf(pub(super) i32);

query!(ProgressOf => (Text, Text, BigInt, BigInt, Nullable<Integer>), Row);

impl QueryFragment<Pg> for ProgressOf {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT p.command, p.phase, p.done, p.total, p.locker FROM ( \
             SELECT c.pid, c.command, c.phase, \
             CASE WHEN c.lockers_total OPERATOR(pg_catalog.>) 0 THEN c.lockers_done \
             WHEN c.blocks_total OPERATOR(pg_catalog.>) 0 THEN c.blocks_done ELSE c.tuples_done END AS done, \
             CASE WHEN c.lockers_total OPERATOR(pg_catalog.>) 0 THEN c.lockers_total \
             WHEN c.blocks_total OPERATOR(pg_catalog.>) 0 THEN c.blocks_total ELSE c.tuples_total END AS total, \
             nullif(c.current_locker_pid, 0)::pg_catalog.int4 AS locker \
             FROM pg_catalog.pg_stat_progress_create_index AS c \
             UNION ALL SELECT r.pid, r.command, r.phase, r.heap_blks_scanned, r.heap_blks_total, NULL \
             FROM pg_catalog.pg_stat_progress_cluster AS r \
             UNION ALL SELECT v.pid, 'VACUUM', v.phase, v.heap_blks_scanned, v.heap_blks_total, NULL \
             FROM pg_catalog.pg_stat_progress_vacuum AS v) AS p \
             WHERE p.phase IS NOT NULL AND p.pid OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(" LIMIT 1");
        Ok(())
    }
}
