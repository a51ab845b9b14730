//! The builder of an advisory lock that keeps its async connection.

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::acquire;
use super::async_owned_guard::AsyncOwnedAdvisoryGuard;
use super::statement::AdvisoryTarget;
use crate::error::Result;
use crate::session::AsyncDriver;
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::types::AdvisoryKey;

/// An advisory lock to be taken together with its async connection; made by
/// [`advisory_owned`](crate::AsyncPgLockConnection::advisory_owned).
///
/// The options and what they mean are those of [`AdvisoryLock`](crate::AdvisoryLock). The guard
/// borrows nothing, so a struct can keep it, and a task can take it along.
#[must_use = "the lock is taken by `acquire` or `try_acquire`"]
#[doc(alias = "pg_advisory_lock")]
pub struct AsyncOwnedAdvisoryLock<C> {
    conn: C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    AsyncOwnedAdvisoryLock<C>,
    "pg_try_advisory_lock",
    "pg_advisory_lock_shared"
);

impl<C> AsyncOwnedAdvisoryLock<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    pub(crate) fn new(conn: C, key: AdvisoryKey) -> Self {
        Self {
            conn,
            target: AdvisoryTarget::new(key),
            wait: WaitOption::default(),
        }
    }

    /// Takes the lock, and keeps it until the guard is released or dropped.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryLock::acquire`](crate::AdvisoryLock::acquire). The connection is dropped:
    /// one of a pool goes back to it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped early, the session is terminated, as by
    /// [`AsyncAdvisoryLock::run`](crate::AsyncAdvisoryLock::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::AsyncConnection;
    /// # let conn = AsyncPgConnection::establish(database_url()).await?;
    /// # let other = AsyncPgConnection::establish(database_url()).await?;
    /// use diesel_async::AsyncPgConnection;
    /// use diesel_pglock::{AsyncOwnedAdvisoryGuard, prelude::*};
    ///
    /// struct Scheduler {
    ///     leader: AsyncOwnedAdvisoryGuard<AsyncPgConnection>,
    /// }
    ///
    /// let scheduler = Scheduler { leader: conn.advisory_owned("scheduler").acquire().await? };
    /// assert!(other.advisory_owned("scheduler").try_acquire().await?.is_none());
    ///
    /// let _conn: AsyncPgConnection = scheduler.leader.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(self) -> Result<AsyncOwnedAdvisoryGuard<C>> {
        let (mut conn, target, wait) = (self.conn, self.target, self.wait);
        let hold = acquire::acquire(&mut AsyncDriver(&mut conn), target, wait).await?;
        Ok(AsyncOwnedAdvisoryGuard::new(conn, hold))
    }

    /// Acquires the lock if it is free; `None` if another session holds it.
    ///
    /// With `None` the connection is dropped too.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), without [`Error::NotAcquired`](crate::Error::NotAcquired).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// See [`acquire`](Self::acquire).
    pub async fn try_acquire(self) -> Result<Option<AsyncOwnedAdvisoryGuard<C>>> {
        let (mut conn, target, wait) = (self.conn, self.target, self.wait);
        let hold = acquire::try_acquire(&mut AsyncDriver(&mut conn), target, wait).await?;
        Ok(hold.map(|hold| AsyncOwnedAdvisoryGuard::new(conn, hold)))
    }
}
