use std::time::Duration;

use chrono::TimeDelta;
use diesel::dsl::{Eq, Gt};
use diesel::prelude::*;
use diesel::query_dsl::methods::{FilterDsl, SelectDsl};

use super::helper_types::{BlockedBy, WaitingLongerThan};
use super::pg_lock_dsl::interval;
use crate::session::Session;
use crate::signal::{BlockingColumns, SessionQuery, to_blocking};
use crate::signal::{Signal, SignalKind};
use crate::views::LockQuery;
use crate::views::WaitDuration;
use crate::views::blocking_table as blocking;

/// Filters and actions for queries of [`BlockedPgLock`](crate::BlockedPgLock)s, on top of [`PgLockDsl`](crate::PgLockDsl)'s.
///
/// Those of `PgLockDsl` are about the lock that is awaited and the session that waits.
pub trait BlockedPgLockDsl: Sized {
    /// Keeps the locks that a session stands in the way of; 0 for the prepared transactions.
    fn blocked_by(self, pid: i32) -> BlockedBy<Self>
    where
        Self: FilterDsl<Eq<blocking::pid, i32>>,
    {
        self.filter(blocking::pid.eq(pid))
    }

    /// Keeps the sessions in the way that have kept a waiter waiting for longer.
    ///
    /// That is for how long the waiter has waited. On PostgreSQL 13, which does not
    /// record it, there are none.
    fn blocking_longer_than(self, limit: Duration) -> WaitingLongerThan<Self>
    where
        Self: FilterDsl<Gt<WaitDuration, TimeDelta>>,
    {
        self.filter(WaitDuration.gt(interval(limit)))
    }

    /// Cancels the queries of the sessions in the way, and tells what came of it.
    ///
    /// Those of every database of the server, unless
    /// [`current_database`](crate::PgLockDsl::current_database) or another filter leaves them out.
    ///
    /// Those are also the ones that wait themselves and only came first; a filter on
    /// `blocking_activity.field(pg_stat_activity::wait_event_type)` or the roots of a
    /// [`WaitGraph`](crate::WaitGraph) leave them out.
    ///
    /// A session that has stepped out of the way meanwhile is left alone, and is
    /// [`Gone`](crate::SignalOutcome::Gone). A prepared transaction has no session to
    /// signal. Otherwise as [`PgLockDsl::cancel_activity`](crate::PgLockDsl::cancel_activity).
    #[doc(alias = "pg_cancel_backend")]
    fn cancel_blocking_activity<C, Mode>(self, conn: &mut C) -> C::Output<'_, Vec<Signal>>
    where
        C: Session<Mode>,
        Self: SelectDsl<BlockingColumns, Output: SessionQuery>,
    {
        conn.run_action(to_blocking(self, SignalKind::Cancel))
    }

    /// Ends the sessions in the way, and tells what came of it.
    ///
    /// As [`cancel_blocking_activity`](Self::cancel_blocking_activity).
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
