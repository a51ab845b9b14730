//! The builder of an advisory lock that keeps its sync connection.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::acquire;
use super::owned_guard::OwnedAdvisoryGuard;
use super::statement::AdvisoryTarget;
use crate::error::Result;
use crate::session::{SyncDriver, run_ready};
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::types::AdvisoryKey;

/// An advisory lock to be taken together with its connection; made by
/// [`advisory_owned`](crate::PgLockConnection::advisory_owned).
///
/// The options and what they mean are those of [`AdvisoryLock`](crate::AdvisoryLock). The guard
/// borrows nothing, so a struct can keep it, and a thread can take it along.
#[must_use = "the lock is taken by `acquire` or `try_acquire`"]
#[doc(alias = "pg_advisory_lock")]
pub struct OwnedAdvisoryLock<C> {
    conn: C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    OwnedAdvisoryLock<C>,
    "pg_try_advisory_lock",
    "pg_advisory_lock_shared"
);

impl<C> OwnedAdvisoryLock<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(crate) fn new(conn: C, key: AdvisoryKey) -> Self {
        Self {
            conn,
            target: AdvisoryTarget::new(key),
            wait: WaitOption::default(),
        }
    }

    /// Takes the lock, and releases it when the guard is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryLock::acquire`](crate::AdvisoryLock::acquire). The connection is dropped:
    /// one of a pool goes back to it.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (conn, mut other) = (connection(), connection());
    /// use diesel::PgConnection;
    /// use diesel_pglock::{OwnedAdvisoryGuard, prelude::*};
    ///
    /// struct Scheduler {
    ///     leader: OwnedAdvisoryGuard<PgConnection>,
    /// }
    ///
    /// let scheduler = Scheduler { leader: conn.advisory_owned("scheduler").acquire()? };
    /// assert!(other.advisory("scheduler").try_acquire()?.is_none());
    ///
    /// let _conn: PgConnection = scheduler.leader.release()?;
    /// assert!(other.advisory("scheduler").try_acquire()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(self) -> Result<OwnedAdvisoryGuard<C>> {
        let (mut conn, target, wait) = (self.conn, self.target, self.wait);
        let hold = run_ready(acquire::acquire(&mut SyncDriver(&mut conn), target, wait))?;
        Ok(OwnedAdvisoryGuard::new(conn, hold))
    }

    /// Acquires the lock if it is free; `None` if another session holds it.
    ///
    /// With `None` the connection is dropped too.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), without [`Error::NotAcquired`](crate::Error::NotAcquired).
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (conn, other) = (connection(), connection());
    /// use diesel_pglock::prelude::*;
    ///
    /// let guard = conn.advisory_owned("scheduler").try_acquire()?;
    /// assert!(guard.is_some());
    /// assert!(other.advisory_owned("scheduler").try_acquire()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_acquire(self) -> Result<Option<OwnedAdvisoryGuard<C>>> {
        let (mut conn, target, wait) = (self.conn, self.target, self.wait);
        let hold = run_ready(acquire::try_acquire(
            &mut SyncDriver(&mut conn),
            target,
            wait,
        ))?;
        Ok(hold.map(|hold| OwnedAdvisoryGuard::new(conn, hold)))
    }
}
