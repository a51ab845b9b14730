//! Filters and actions on queries of awaited locks and their blockers.

use std::time::Duration;

use chrono::TimeDelta;
use diesel::dsl::{Eq, Gt};
use diesel::prelude::*;
use diesel::query_dsl::methods::{FilterDsl, SelectDsl};

use super::helper_types::{BlockedBy, Roots, WaitingLongerThan};
use super::pg_lock_dsl::interval;
use crate::session::Session;
use crate::signal::{BlockingColumns, SessionQuery, to_blocking};
use crate::signal::{Signal, SignalKind};
use crate::views::IsRoot;
use crate::views::LockQuery;
use crate::views::WaitDuration;
use crate::views::blocking_table as blocking;

/// Filters and actions for queries of [`BlockedPgLock`](crate::BlockedPgLock)s.
///
/// The filters of [`PgLockDsl`](crate::PgLockDsl) work too: they compare the awaited lock and
/// the waiter.
pub trait BlockedPgLockDsl: Sized {
    /// Keeps the locks that a session blocks; 0 means the prepared transactions.
    fn blocked_by(self, pid: i32) -> BlockedBy<Self>
    where
        Self: FilterDsl<Eq<blocking::pid, i32>>,
    {
        self.filter(blocking::pid.eq(pid))
    }

    /// Keeps the blockers whose waiter has waited for longer than a limit.
    ///
    /// PostgreSQL 13 does not record the start of a wait: there the filter keeps no rows. The
    /// same is true in the first moments of a wait.
    fn blocking_longer_than(self, limit: Duration) -> WaitingLongerThan<Self>
    where
        Self: FilterDsl<Gt<WaitDuration, TimeDelta>>,
    {
        self.filter(WaitDuration.gt(interval(limit)))
    }

    /// Keeps the blockers that do not wait themselves: the roots.
    ///
    /// A session in a queue blocks the sessions behind it, but ending it ends no wait. The
    /// root of a waiter that waits for another waiter is in the row of the latter.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    /// use diesel_pglock::BlockedPgLock;
    ///
    /// # fn main() -> diesel_pglock::Result<()> {
    /// # let conn = &mut connection();
    /// let roots = BlockedPgLock::query().current_database().roots();
    /// let signals = roots.terminate_blocking_activity(conn)?;
    /// assert!(signals.is_empty(), "no session waits");
    /// # Ok(())
    /// # }
    /// ```
    fn roots(self) -> Roots<Self>
    where
        Self: FilterDsl<IsRoot>,
    {
        self.filter(IsRoot)
    }

    /// Cancels the queries of the blockers, and returns the outcome of each signal.
    ///
    /// The query finds blockers in all databases of the server, except those that
    /// [`current_database`](crate::PgLockDsl::current_database) or another filter excludes.
    ///
    /// Blockers that wait themselves are signalled too; [`roots`](Self::roots) excludes them.
    ///
    /// A session that no longer blocks when its turn comes is not signalled, and is reported
    /// as [`Gone`](crate::SignalOutcome::Gone). Prepared transactions have no session, and no
    /// outcome. For errors and cancel safety see
    /// [`PgLockDsl::cancel_activity`](crate::PgLockDsl::cancel_activity).
    #[doc(alias = "pg_cancel_backend")]
    fn cancel_blocking_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<BlockingColumns, Output: SessionQuery>,
    {
        conn.run_action(to_blocking(self, SignalKind::Cancel))
    }

    /// Terminates the blockers, and returns the outcome of each signal.
    ///
    /// Selects its victims as [`cancel_blocking_activity`](Self::cancel_blocking_activity) does.
    #[doc(alias = "pg_terminate_backend")]
    fn terminate_blocking_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<BlockingColumns, Output: SessionQuery>,
    {
        conn.run_action(to_blocking(self, SignalKind::Terminate))
    }
}

impl<Q: LockQuery> BlockedPgLockDsl for Q {}
