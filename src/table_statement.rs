//! The statement that locks tables.

use std::fmt::Write;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};

use crate::TableLockMode;
use crate::statement::{ACQUIRED, BUSY, OUTCOME, command, push_do};
use crate::timeout::Patience;

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
    pub(crate) target: TableTarget,
    pub(crate) patience: Patience,
}

command!(LockTables);

impl LockTables {
    fn body(&self) -> Result<String, std::fmt::Error> {
        let mut body = String::from("DECLARE ambient text := current_setting('lock_timeout'); ");
        let deadline = match self.patience {
            Patience::Until(deadline) => Some(deadline.remaining_millis()),
            Patience::None | Patience::Session => None,
        };
        if let Some(millis) = deadline {
            write!(
                body,
                "deadline timestamptz := clock_timestamp() + interval '{millis} ms'; "
            )?;
        }
        body.push_str("BEGIN ");
        for table in &self.target.tables {
            if deadline.is_some() {
                // `lock_timeout` counts for each lock anew; the deadline is for all of them.
                body.push_str(
                    "PERFORM set_config('lock_timeout', greatest(1, ceil(extract(epoch FROM \
                     deadline - clock_timestamp()) * 1000)::int)::text, true); ",
                );
            }
            self.push_lock(&mut body, table)?;
        }
        write!(
            body,
            "PERFORM set_config('lock_timeout', ambient, true); \
             PERFORM set_config('{OUTCOME}', '{ACQUIRED}', true); \
             EXCEPTION WHEN lock_not_available THEN \
             PERFORM set_config('{OUTCOME}', '{BUSY}', true); \
             END"
        )?;
        Ok(body)
    }

    fn push_lock(&self, body: &mut String, table: &str) -> std::fmt::Result {
        let only = if self.target.only { "ONLY " } else { "" };
        let nowait = match self.patience {
            Patience::None => " NOWAIT",
            Patience::Session | Patience::Until(_) => "",
        };
        let mode = self.target.mode;
        write!(body, "LOCK TABLE {only}{table} IN {mode} MODE{nowait}; ")
    }
}

impl QueryFragment<Pg> for LockTables {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let body = self
            .body()
            .map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
        push_do(&mut out, &body);
        Ok(())
    }
}
