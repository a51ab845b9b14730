//! A held advisory lock together with its async connection.

use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::hold::AdvisoryHold;
use super::owned_guard::TAKEN_BY_RELEASE;
use crate::error::Result;
use crate::session::AsyncDriver;
use crate::session::Driver;

/// A held advisory lock and its async connection in one value.
///
/// It is the connection as well: use it for the statements that the lock protects. Give it back
/// by [`release`](Self::release). A drop cannot wait for the release, so it terminates the session,
/// and the lock goes with it; a pool replaces the connection.
///
/// The lock is lost without a word if the session ends. A long-lived role should ask the server
/// from time to time, or run under [`monitored`](crate::AsyncAdvisoryLock::monitored).
#[must_use = "the session is terminated as soon as the guard is dropped"]
pub struct AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    /// `None` once it was given back.
    conn: Option<C>,
    hold: AdvisoryHold,
}

impl<C> AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    pub(crate) fn new(conn: C, hold: AdvisoryHold) -> Self {
        Self {
            conn: Some(conn),
            hold,
        }
    }

    /// Releases the lock, and returns the connection.
    ///
    /// A transaction that was opened under the lock and is still open is rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryGuard::release`](crate::AdvisoryGuard::release). The connection is
    /// dropped then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped early, the session is terminated.
    #[doc(alias = "pg_advisory_unlock")]
    pub async fn release(mut self) -> Result<C> {
        let mut conn = self.conn.take().expect(TAKEN_BY_RELEASE);
        self.hold.leave(&mut AsyncDriver(&mut conn), false).await?;
        Ok(conn)
    }
}

impl<C> fmt::Debug for AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncOwnedAdvisoryGuard")
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

impl<C> Deref for AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    type Target = C;

    fn deref(&self) -> &C {
        self.conn.as_ref().expect(TAKEN_BY_RELEASE)
    }
}

impl<C> DerefMut for AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    fn deref_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect(TAKEN_BY_RELEASE)
    }
}

impl<C> Drop for AsyncOwnedAdvisoryGuard<C>
where
    C: AsyncConnection<Backend = Pg>,
{
    fn drop(&mut self) {
        if let Some(conn) = &mut self.conn {
            AsyncDriver(conn).terminate_without_waiting();
        }
    }
}
