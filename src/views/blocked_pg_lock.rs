use diesel::dsl::{AsSelect, Nullable, Select, auto_type, not};
use diesel::pg::Pg;
use diesel::prelude::*;

use super::activity_columns::{BlockingActivityColumns, blocking_activity_columns};
use super::blocking_table as blocking;
use super::pg_activity::PgActivity;
use super::pg_lock::{PgLock, tables as lock_tables};
use crate::tables::{blocking_activity, pg_locks, pg_stat_activity};

/// A lock that is awaited, and a session that stands in its way.
///
/// That session holds a lock that conflicts, or stands before it in the queue for
/// one that does; see [`pg_blocking_pids`][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = pg_locks, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BlockedPgLock {
    /// The lock that is awaited.
    #[diesel(embed)]
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub lock: PgLock,
    /// The session in the way; 0 for a prepared transaction, see [`PreparedTransaction`](crate::PreparedTransaction).
    #[diesel(select_expression = blocking::pid)]
    pub blocking_pid: i32,
    /// What that session does; `None` for a prepared transaction.
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
    /// Reads who waits for whom: one row per awaited lock and session in its way.
    ///
    /// On top of the tables of [`PgLock::query`], the query reads
    /// [`blocking`](crate::blocking) and `schema::blocking_activity`, an alias of
    /// `pg_stat_activity`. [`BlockedPgLockDsl`](crate::BlockedPgLockDsl) has filters and
    /// actions for it.
    ///
    /// Whoever stands before a session in the queue is in its way too, so a queue of
    /// n sessions has up to n × (n + 1) / 2 rows;
    /// [`WaitGraph`](crate::WaitGraph) folds them.
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
    /// let held_up: Vec<BlockedPgLock> = BlockedPgLock::query().filter(idle).load(conn)?;
    /// for row in held_up {
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
