//! Filters and actions on queries of locks.

use std::time::Duration;

use chrono::TimeDelta;
use diesel::dsl::{Eq, EqAny, Gt, not};
use diesel::prelude::*;
use diesel::query_dsl::methods::{FilterDsl, SelectDsl};

use super::helper_types::{
    Advisory, Application, CurrentDatabase, Granted, Mode, OfType, On, Pid, Pids, Waiting,
    WaitingLongerThan,
};
use crate::session::Session;
use crate::signal::{ActivityColumns, SessionQuery, to_activity};
use crate::signal::{Signal, SignalKind};
use crate::tables::{pg_locks, pg_stat_activity};
use crate::types::{AdvisoryKey, LockMode, LockType, LockableTable};
use crate::views::LockQuery;
use crate::views::{InCurrentDatabase, WaitDuration};
use crate::views::{IsAdvisory, IsOn};

/// Filters and actions for queries of locks.
///
/// A filter works on every Diesel query that reads the columns it compares. All filters work
/// on [`PgLock::query`](crate::PgLock::query) and
/// [`BlockedPgLock::query`](crate::BlockedPgLock::query). Most work on queries of
/// `pg_locks` alone: a selection, or `pg_locks::table.into_boxed()`. The query may be
/// filtered, joined and boxed, with any selection. The result is a Diesel query again, whose
/// type is in [`dsl`](crate::dsl).
pub trait PgLockDsl: Sized {
    /// Keeps the locks on a table, and on its pages and rows.
    ///
    /// `T` is a table, or a model of one. The table is found as a query finds it: by schema
    /// and name, or along the `search_path` if `table!` has no schema.
    ///
    /// Locks on its indexes, partitions and TOAST table are not included. A session that waits
    /// for a changed row awaits a lock on the transaction that changed it
    /// ([`LockType::TransactionId`]). Such a wait is included if the server shows its table: for
    /// updates, deletes, row locks and foreign keys always, for an insert of a key that another
    /// transaction has inserted if both have written no other table with an index in use.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    /// use diesel_pglock::{PgLock, TableLockMode};
    ///
    /// # fn main() -> diesel_pglock::Result<()> {
    /// # let conn = &mut connection();
    /// conn.transaction(|conn| {
    ///     conn.lock_table::<users::table>(TableLockMode::Exclusive).acquire()?;
    ///     let locks: Vec<PgLock> = PgLock::query().on::<users::table>().load(conn)?;
    ///     assert_eq!(locks.len(), 1);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    fn on<T>(self) -> On<Self>
    where
        T: LockableTable,
        Self: FilterDsl<IsOn>,
    {
        self.filter(IsOn::table::<T>())
    }

    /// Keeps the locks on a relation, and on its pages and rows, as [`on`](Self::on) does.
    ///
    /// The name is parsed as in SQL: `public.users`, `"Odd Name"`, or `users`, which is found
    /// along the `search_path`. For a relation that does not exist, the filter keeps no rows.
    /// If the text cannot be a name, the query fails before PostgreSQL 16.
    fn on_relation(self, name: impl Into<String>) -> On<Self>
    where
        Self: FilterDsl<IsOn>,
    {
        self.filter(IsOn::named(name))
    }

    /// Keeps the advisory lock of a key in this database.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::PgLock;
    /// use diesel_pglock::prelude::*;
    ///
    /// # fn main() -> diesel_pglock::Result<()> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// # let (conn, other) = (&mut conn, &mut other);
    /// let guard = other.advisory("nightly").acquire()?;
    /// let holder: PgLock = PgLock::query().advisory("nightly").granted().first(conn)?;
    /// assert!(holder.pid.is_some());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    fn advisory(self, key: impl Into<AdvisoryKey>) -> Advisory<Self>
    where
        Self: FilterDsl<IsAdvisory>,
    {
        self.filter(IsAdvisory::from(key.into()))
    }

    /// Keeps the locks that a session holds or awaits.
    fn pid(self, pid: i32) -> Pid<Self>
    where
        Self: FilterDsl<Eq<pg_locks::pid, i32>>,
    {
        self.filter(pg_locks::pid.eq(pid))
    }

    /// Keeps the locks that any of the sessions holds or awaits.
    fn pids(self, pids: impl IntoIterator<Item = i32>) -> Pids<Self>
    where
        Self: FilterDsl<EqAny<pg_locks::pid, Vec<i32>>>,
    {
        let pids: Vec<i32> = pids.into_iter().collect();
        self.filter(pg_locks::pid.eq_any(pids))
    }

    /// Keeps the held locks.
    fn granted(self) -> Granted<Self>
    where
        Self: FilterDsl<pg_locks::granted>,
    {
        self.filter(pg_locks::granted)
    }

    /// Keeps the awaited locks.
    fn waiting(self) -> Waiting<Self>
    where
        Self: FilterDsl<not<pg_locks::granted>>,
    {
        self.filter(diesel::dsl::not(pg_locks::granted))
    }

    /// Keeps the locks of a mode.
    fn mode(self, mode: impl Into<LockMode>) -> Mode<Self>
    where
        Self: FilterDsl<Eq<pg_locks::mode, LockMode>>,
    {
        self.filter(pg_locks::mode.eq(mode.into()))
    }

    /// Keeps the locks on a type of object.
    fn lock_type(self, lock_type: LockType) -> OfType<Self>
    where
        Self: FilterDsl<Eq<pg_locks::locktype, LockType>>,
    {
        self.filter(pg_locks::locktype.eq(lock_type))
    }

    /// Keeps the awaited locks whose wait has lasted longer than a limit.
    ///
    /// PostgreSQL 13 does not record the start of a wait: there the filter keeps no rows. The
    /// same is true in the first moments of a wait.
    fn waiting_longer_than(self, limit: Duration) -> WaitingLongerThan<Self>
    where
        Self: FilterDsl<Gt<WaitDuration, TimeDelta>>,
    {
        self.filter(WaitDuration.gt(interval(limit)))
    }

    /// Keeps the locks of sessions with this `application_name`.
    fn application(self, name: impl Into<String>) -> Application<Self>
    where
        Self: FilterDsl<Eq<pg_stat_activity::application_name, String>>,
    {
        self.filter(pg_stat_activity::application_name.eq(name.into()))
    }

    /// Keeps the locks of this database.
    ///
    /// A lock on a transaction or on a shared catalog belongs to no database. The database of
    /// its session, or of its prepared transaction, decides.
    fn current_database(self) -> CurrentDatabase<Self>
    where
        Self: FilterDsl<InCurrentDatabase>,
    {
        self.filter(InCurrentDatabase)
    }

    /// Cancels the queries of the sessions that the query finds, and returns the outcomes.
    ///
    /// The query finds sessions in all databases of the server, except those that
    /// [`current_database`](Self::current_database) or another filter excludes. It may be a
    /// query of locks or of activity, and must own the values that it compares.
    ///
    /// Each session is signalled once. A signal that the server denies does not prevent the
    /// others, and does not abort an open transaction. A session that is idle in a transaction
    /// [remains idle](SignalKind::Cancel).
    ///
    /// # Errors
    ///
    /// Fails if the query or a signal statement fails. The own session, if the query finds it,
    /// is signalled last, and the call then fails with the error of the cancelled statement.
    ///
    /// # Cancel safety
    ///
    /// A dropped future sends no further signals. Signals that were sent remain in effect.
    #[doc(alias = "pg_cancel_backend")]
    fn cancel_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<ActivityColumns, Output: SessionQuery>,
    {
        conn.run_action(to_activity(self, SignalKind::Cancel))
    }

    /// Terminates the sessions that the query finds, and returns the outcomes.
    ///
    /// Selects its victims as [`cancel_activity`](Self::cancel_activity) does. The own session,
    /// if the query finds it, is terminated last and loses its connection.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    /// use diesel_pglock::{PgLock, SignalOutcome};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// # let conn = &mut conn;
    /// let stuck = other.advisory("nightly").acquire()?;
    ///
    /// let signals = PgLock::query().advisory("nightly").terminate_activity(conn)?;
    /// assert_eq!(signals[0].outcome, SignalOutcome::Sent);
    /// # drop(stuck);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pg_terminate_backend")]
    fn terminate_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<ActivityColumns, Output: SessionQuery>,
    {
        conn.run_action(to_activity(self, SignalKind::Terminate))
    }
}

// Tables and other queries do not get these methods: for them `on` must remain Diesel's `on` of a join.
impl<Q: LockQuery> PgLockDsl for Q {}

/// Converts a limit; one that is too long for an interval becomes the longest interval.
pub(crate) fn interval(duration: Duration) -> TimeDelta {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    TimeDelta::microseconds(microseconds)
}
