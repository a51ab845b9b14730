//! The statement that locks tables.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};

use crate::statement::{ACQUIRED, BUSY, OUTCOME, command, push_do, set_lock_timeout};
use crate::timeout::Patience;
use crate::{LockMode, TableLockMode};

/// Which tables, and how.
#[derive(Clone, Debug)]
pub(crate) struct TableTarget {
    /// As Diesel renders them: quoted, with the schema if they have one.
    pub(crate) tables: Vec<String>,
    pub(crate) mode: TableLockMode,
    /// Without the tables that inherit.
    pub(crate) only: bool,
}

/// What the lock is called in an error.
impl std::fmt::Display for TableTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lock on ", self.mode)?;
        for (i, table) in self.tables.iter().enumerate() {
            write!(f, "{}`{table}`", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Locks all of the tables or none, and leaves in a setting which of the two it was.
///
/// The block is a savepoint of its own: a lock that was not to be had leaves the
/// transaction as usable as before, and gives back what was locked already.
#[derive(Debug)]
pub(crate) struct LockTables {
    body: String,
}

command!(LockTables);

impl LockTables {
    pub(crate) fn new(target: &TableTarget, patience: Patience) -> Self {
        let (declared, statements) = match patience {
            Patience::Until(deadline) => (
                declare_deadline(deadline.remaining_millis()),
                target.each(|table| under_deadline(target, table)),
            ),
            Patience::Session => (String::new(), target.each(|table| target.lock(table))),
            Patience::None => (String::new(), target.each(|table| target.lock_now(table))),
        };
        // Whoever fails next asks who was in the way; what a transaction has seen
        // of `pg_stat_activity` it would see again.
        let body = format!(
            "DECLARE ambient text := pg_catalog.current_setting('lock_timeout'); {declared}\
             BEGIN {statements}\
             PERFORM pg_catalog.set_config('lock_timeout', ambient, true); \
             PERFORM pg_catalog.set_config('{OUTCOME}', '{ACQUIRED}', true); \
             EXCEPTION WHEN lock_not_available THEN \
             PERFORM pg_catalog.set_config('{OUTCOME}', '{BUSY}', true); \
             PERFORM pg_catalog.pg_stat_clear_snapshot(); \
             END"
        );
        Self { body }
    }
}

impl QueryFragment<Pg> for LockTables {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        push_do(&mut out, &self.body);
        Ok(())
    }
}

impl TableTarget {
    fn each(&self, statement: impl Fn(&str) -> String) -> String {
        self.tables.iter().map(|table| statement(table)).collect()
    }

    fn lock(&self, table: &str) -> String {
        let only = if self.only { "ONLY " } else { "" };
        format!("LOCK TABLE {only}{table} IN {} MODE; ", self.mode)
    }

    fn lock_now(&self, table: &str) -> String {
        let only = if self.only { "ONLY " } else { "" };
        format!("LOCK TABLE {only}{table} IN {} MODE NOWAIT; ", self.mode)
    }

    /// The modes that keep this lock from being taken.
    pub(crate) fn conflicts(&self) -> Vec<LockMode> {
        let modes = TableLockMode::ALL.into_iter();
        modes
            .filter(|mode| mode.conflicts_with(self.mode))
            .map(LockMode::from)
            .collect()
    }
}

fn declare_deadline(millis: u32) -> String {
    format!(
        "deadline timestamptz := pg_catalog.clock_timestamp() + interval '{millis} ms'; \
         child text; parts int; "
    )
}

/// What is left until the deadline, in milliseconds.
const REMAINING: &str = "pg_catalog.ceil(extract(epoch FROM deadline - pg_catalog.clock_timestamp()) \
     OPERATOR(pg_catalog.*) 1000)::int";

/// The tables that inherit from `table`, in the order that the server locks them.
fn heirs(table: &str) -> String {
    format!(
        "WITH RECURSIVE heirs(id, path) AS (\
         SELECT inhrelid, ARRAY[inhrelid] FROM pg_catalog.pg_inherits \
         WHERE inhparent OPERATOR(pg_catalog.=) {name}::regclass \
         UNION ALL SELECT i.inhrelid, pg_catalog.array_append(path, i.inhrelid) \
         FROM heirs JOIN pg_catalog.pg_inherits AS i ON i.inhparent = id) ",
        name = literal(table),
    )
}

/// Locks one table with what is left of the time.
///
/// `lock_timeout` counts for each lock anew, and locking a table locks those that
/// inherit from it one after the other. So they are locked one by one. After that the
/// table itself finds nothing left to do, except for tables that this role may not
/// lock by themselves, that are not plain tables, or that came to be just now.
fn under_deadline(target: &TableTarget, table: &str) -> String {
    let all = until_deadline(&target.lock(table));
    if target.only {
        return format!("parts := 1; {all}");
    }
    let (mode, heirs) = (target.mode, heirs(table));
    let each = set_lock_timeout(format!("greatest(1, {REMAINING})"));
    format!(
        "{heirs}SELECT pg_catalog.count(*) + 1 INTO parts FROM heirs; \
         BEGIN \
         {each}LOCK TABLE ONLY {table} IN {mode} MODE; \
         FOR child IN {heirs}\
         SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM heirs \
         JOIN pg_catalog.pg_class AS c ON c.oid = id \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') ORDER BY path \
         LOOP {each}\
         BEGIN EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN {mode} MODE', child); \
         EXCEPTION WHEN undefined_table THEN NULL; END; \
         END LOOP; \
         EXCEPTION WHEN insufficient_privilege THEN NULL; \
         END; \
         {all}"
    )
}

/// Tries, until the deadline, what takes up to `parts` locks: each may wait for its part of
/// what is left, so that all of them together never wait for longer.
fn until_deadline(lock: &str) -> String {
    let part = set_lock_timeout(format!("greatest(1, {REMAINING} / parts)"));
    format!(
        "LOOP BEGIN {part}{lock}EXIT; \
         EXCEPTION WHEN lock_not_available THEN \
         IF pg_catalog.clock_timestamp() >= deadline THEN RAISE; END IF; \
         END; END LOOP; "
    )
}

/// The text as a string literal, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('\'', "''");
    format!("E'{escaped}'")
}
