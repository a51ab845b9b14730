//! A held advisory lock that is released on drop.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::hold::AdvisoryHold;
use crate::error::Result;
use crate::session::{SyncDriver, run_ready};

/// A held advisory lock; dropping it releases.
///
/// It is the connection as well: use it for the statements that the lock protects, as
/// `&mut *guard` where a connection is asked for.
///
/// A release that fails ends the session, and the lock goes with it; a pool replaces the
/// connection. In a transaction that a failed statement has aborted, each release does:
/// take the guard outside and open the transaction on it, or use
/// [`run`](crate::AdvisoryLock::run), which has a savepoint. [`release`](Self::release)
/// reports it; dropping does not.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct AdvisoryGuard<'c, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    conn: &'c mut C,
    /// `None` once it was given back.
    hold: Option<AdvisoryHold>,
}

impl<'c, C> AdvisoryGuard<'c, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(crate) fn new(conn: &'c mut C, hold: AdvisoryHold) -> Self {
        Self {
            conn,
            hold: Some(hold),
        }
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`](crate::Error::NotHeld) when something else has released it already;
    /// [`Error::SessionChanged`](crate::Error::SessionChanged) behind a pooler in transaction mode;
    /// [`Error::Query`](crate::Error::Query) when the server cannot be asked.
    #[doc(alias = "pg_advisory_unlock")]
    pub fn release(mut self) -> Result<()> {
        match self.hold.take() {
            Some(hold) => run_ready(hold.release(&mut SyncDriver(self.conn))),
            None => Ok(()),
        }
    }
}

impl<C> fmt::Debug for AdvisoryGuard<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvisoryGuard")
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

impl<C> Deref for AdvisoryGuard<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Target = C;

    fn deref(&self) -> &C {
        self.conn
    }
}

impl<C> DerefMut for AdvisoryGuard<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn deref_mut(&mut self) -> &mut C {
        self.conn
    }
}

impl<C> Drop for AdvisoryGuard<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let mut driver = SyncDriver(&mut *self.conn);
        // An error has no receiver here; if the release fails, the session ends.
        let _ = if thread::panicking() {
            run_ready(hold.leave(&mut driver, false))
        } else {
            run_ready(hold.release(&mut driver))
        };
    }
}
