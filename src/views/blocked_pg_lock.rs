//! The awaited locks with their blockers: rows of `pg_locks` joined with `pg_blocking_pids`.

use diesel::dsl::{AsSelect, Nullable, Select, auto_type, not};
use diesel::pg::Pg;
use diesel::prelude::*;

use super::activity_columns::{BlockingActivityColumns, blocking_activity_columns};
use super::blocking_table as blocking;
use super::pg_activity::PgActivity;
use super::pg_lock::{PgLock, tables as lock_tables};
use crate::tables::{blocking_activity, pg_locks, pg_stat_activity};

/// An awaited lock, and one of its blockers.
///
/// The blocker holds a lock that conflicts, or is ahead in the queue for such a lock, as
/// [`pg_blocking_pids`][pg] reports it.
///
/// [pg]: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION
#[derive(Clone, Debug, Default, PartialEq, Queryable, Selectable)]
#[diesel(table_name = pg_locks, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BlockedPgLock {
    /// The awaited lock.
    #[diesel(embed)]
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub lock: PgLock,
    /// The process id of the blocker; 0 for a [prepared transaction](crate::PreparedTransaction).
    #[diesel(select_expression = blocking::pid)]
    pub blocking_pid: i32,
    /// The activity of the blocker; `None` for a prepared transaction.
    #[diesel(select_expression = blocking_activity_columns().nullable())]
    #[diesel(select_expression_type = Nullable<BlockingActivityColumns>)]
    pub blocking_activity: Option<PgActivity>,
}

/// The tables of [`BlockedPgLock::query`], joined.
pub type BlockedPgLockTables = tables;

#[auto_type]
pub fn tables() -> _ {
    lock_tables()
        .inner_join(blocking::table.on(not(pg_locks::granted)))
        .left_join(
            blocking_activity.on(blocking_activity
                .field(pg_stat_activity::pid)
                .eq(blocking::pid)),
        )
}

/// The query that [`BlockedPgLock::query`] returns.
pub type BlockedPgLockQuery = Select<BlockedPgLockTables, AsSelect<BlockedPgLock, Pg>>;

impl BlockedPgLock {
    /// Reads the awaited locks with their blockers: one row per lock and blocker.
    ///
    /// The query reads the tables of [`PgLock::query`], [`blocking`](crate::blocking), and
    /// `schema::blocking_activity`, an alias of `pg_stat_activity`.
    /// [`BlockedPgLockDsl`](crate::BlockedPgLockDsl) has filters and actions for it.
    ///
    /// Sessions ahead in the queue are blockers too, so a queue of n sessions has up to
    /// n × (n + 1) / 2 rows. [`WaitGraph`](crate::WaitGraph) reads one row per session.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    /// use diesel_pglock::schema::{blocking_activity, pg_stat_activity};
    /// use diesel_pglock::BlockedPgLock;
    ///
    /// # fn main() -> QueryResult<()> {
    /// # let conn = &mut connection();
    /// let idle = blocking_activity.field(pg_stat_activity::state).eq("idle in transaction");
    /// let blocked: Vec<BlockedPgLock> = BlockedPgLock::query().filter(idle).load(conn)?;
    /// for row in blocked {
    ///     println!("{:?} waits for {}", row.lock.pid, row.blocking_pid);
    /// }
    /// # assert_eq!(BlockedPgLock::query().count().get_result::<i64>(conn)?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn query() -> BlockedPgLockQuery {
        tables().select(Self::as_select())
    }
}
