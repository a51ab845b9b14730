//! A held advisory lock together with its sync connection.

use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::hold::AdvisoryHold;
use crate::error::Result;
use crate::session::{SyncDriver, run_ready};

/// A held advisory lock and its connection in one value; dropping it releases the lock.
///
/// It is the connection as well: use it for the statements that the lock protects. Its release
/// rolls back a transaction that was opened under the lock and is still open. A release that
/// fails ends the session, and the lock goes with it; a pool replaces the connection.
///
/// The lock is lost without a word if the session ends. A long-lived role should ask the server
/// from time to time, or run under [`monitored`](crate::AdvisoryLock::monitored).
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// `None` once it was given back.
    conn: Option<C>,
    hold: AdvisoryHold,
}

impl<C> OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(crate) fn new(conn: C, hold: AdvisoryHold) -> Self {
        Self {
            conn: Some(conn),
            hold,
        }
    }

    /// Releases the lock, and returns the connection.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryGuard::release`](crate::AdvisoryGuard::release). The connection is
    /// dropped then.
    #[doc(alias = "pg_advisory_unlock")]
    pub fn release(mut self) -> Result<C> {
        let mut conn = self.conn.take().expect(TAKEN_BY_RELEASE);
        release(&mut conn, self.hold)?;
        Ok(conn)
    }
}

pub(super) const TAKEN_BY_RELEASE: &str =
    "only `release`, which consumes the guard, takes the connection";

fn release<C>(conn: &mut C, hold: AdvisoryHold) -> Result<()>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    run_ready(hold.leave(&mut SyncDriver(conn), false))
}

impl<C> fmt::Debug for OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedAdvisoryGuard")
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

impl<C> Deref for OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Target = C;

    fn deref(&self) -> &C {
        self.conn.as_ref().expect(TAKEN_BY_RELEASE)
    }
}

impl<C> DerefMut for OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn deref_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect(TAKEN_BY_RELEASE)
    }
}

impl<C> Drop for OwnedAdvisoryGuard<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn drop(&mut self) {
        if let Some(conn) = &mut self.conn {
            // An error has no receiver here; if the release fails, the session ends.
            let _ = release(conn, self.hold);
        }
    }
}
