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
/// Each filter works on every Diesel query that holds the columns it asks about:
/// all on [`PgLock::query`](crate::PgLock::query) and
/// [`BlockedPgLock::query`](crate::BlockedPgLock::query), most on one that starts
/// from the bare `pg_locks` (a selection of it, or `pg_locks::table.into_boxed()`); filtered, joined, with another selection, boxed or
/// not. The result is a Diesel query again; [`dsl`](crate::dsl) names its type.
pub trait PgLockDsl: Sized {
    /// Keeps the locks on a table, and on its pages and rows.
    ///
    /// `T` is a table or a model that has one. It is found as a query would find it:
    /// by schema and name, or along the `search_path` when `table!` gives no schema.
    /// Locks on its indexes, partitions and TOAST table are not its own. Who waits for a
    /// row that another transaction has changed waits for that transaction
    /// ([`LockType::TransactionId`]), which is a lock on no table.
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

    /// Keeps the locks on a relation, and on its pages and rows.
    ///
    /// The name is read as SQL reads it: `public.users`, `"Odd Name"`, or `users`
    /// along the `search_path`. Of a name that means nothing there are no locks; a text
    /// that is no name at all is an error before PostgreSQL 16.
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

    /// Keeps the locks that are held.
    fn granted(self) -> Granted<Self>
    where
        Self: FilterDsl<pg_locks::granted>,
    {
        self.filter(pg_locks::granted)
    }

    /// Keeps the locks that are awaited.
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

    /// Keeps the locks on a type of thing.
    fn lock_type(self, lock_type: LockType) -> OfType<Self>
    where
        Self: FilterDsl<Eq<pg_locks::locktype, LockType>>,
    {
        self.filter(pg_locks::locktype.eq(lock_type))
    }

    /// Keeps the locks that have been awaited for longer.
    ///
    /// On PostgreSQL 13, which does not record since when, there are none.
    fn waiting_longer_than(self, limit: Duration) -> WaitingLongerThan<Self>
    where
        Self: FilterDsl<Gt<WaitDuration, TimeDelta>>,
    {
        self.filter(WaitDuration.gt(interval(limit)))
    }

    /// Keeps the locks of sessions whose client calls itself so.
    fn application(self, name: impl Into<String>) -> Application<Self>
    where
        Self: FilterDsl<Eq<pg_stat_activity::application_name, String>>,
    {
        self.filter(pg_stat_activity::application_name.eq(name.into()))
    }

    /// Keeps the locks of this database.
    ///
    /// A lock on a transaction or a shared catalog belongs to none: there the
    /// session's database decides.
    fn current_database(self) -> CurrentDatabase<Self>
    where
        Self: FilterDsl<InCurrentDatabase>,
    {
        self.filter(InCurrentDatabase)
    }

    /// Cancels the queries of the sessions that the query finds, and tells what came of it.
    ///
    /// It finds those of every database of the server, unless
    /// [`current_database`](Self::current_database) or another filter leaves them out.
    ///
    /// Works on queries of locks and of activity that own what they compare with. Each session is signalled once; the
    /// one that asks, if it is among them, last: that ends this very statement with an
    /// error. A denied signal keeps no other from being sent and no transaction from
    /// going on. What is idle in a transaction [stays so](SignalKind::Cancel).
    #[doc(alias = "pg_cancel_backend")]
    fn cancel_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<ActivityColumns, Output: SessionQuery>,
    {
        conn.run_action(to_activity(self, SignalKind::Cancel))
    }

    /// Ends the sessions that the query finds, and tells what came of it.
    ///
    /// As [`cancel_activity`](Self::cancel_activity); the session that asks, if it is
    /// among them, loses its connection.
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

// Not for tables, and not for queries without these views: Diesel's `on`, of a join, must stay the only one there.
impl<Q: LockQuery> PgLockDsl for Q {}

/// The longest that an interval can be stands for anything longer.
pub(crate) fn interval(duration: Duration) -> TimeDelta {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    TimeDelta::microseconds(microseconds)
}
