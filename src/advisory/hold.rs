//! A session's advisory lock that is held: what runs under it, and giving it back.

use super::statement::{AdvisoryHeld, AdvisoryTarget, AdvisoryUnlock};
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::EndSessionOnDrop;

/// A session lock that was taken and has to be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdvisoryHold {
    pub(crate) target: AdvisoryTarget,
    /// The backend that has the lock; behind a pooler the next statement may meet another.
    pub(crate) backend: i32,
    /// The number of transactions that were open when it was acquired.
    pub(crate) depth: u32,
}

impl AdvisoryHold {
    /// After the closure: closes the savepoint as the closure ended, then releases.
    ///
    /// Without a savepoint, a transaction that the closure abandoned is rolled back: the lock
    /// protects its work, and it could not be committed under the lock any more.
    pub(crate) async fn leave(self, driver: &mut impl Driver, succeeded: bool) -> Result<()> {
        let mut session = EndSessionOnDrop::new(driver);
        let closed = match self.depth {
            0 => session.driver().unwind(0).await,
            depth => session.driver().close(depth, succeeded).await,
        };
        session.disarm();
        self.release(driver).await?;
        closed
    }

    /// Gives the lock back, once.
    ///
    /// When that cannot be done, as in an aborted transaction, the session ends, and the
    /// lock with it; a pool drops the connection.
    pub(crate) async fn release(self, driver: &mut impl Driver) -> Result<()> {
        let Self {
            target, backend, ..
        } = self;
        let mut session = EndSessionOnDrop::new(driver);
        let unlock = AdvisoryUnlock { target, backend };
        let released = match session.driver().ask(unlock).await {
            Ok(reply) => self.released(reply),
            Err(error) => self.after_failed_release(session.driver(), error).await,
        };
        match &released {
            Ok(()) | Err(Error::NotHeld(_)) => session.disarm(),
            Err(Error::SessionChanged { .. }) => session.mark_broken(),
            Err(_) => session.end().await,
        }
        released
    }

    fn released(&self, reply: (bool, i32)) -> Result<()> {
        match reply {
            (_, found) if found != self.backend => {
                Err(session_changed(self.target, self.backend, found))
            }
            (false, _) => Err(Error::NotHeld(self.target.key)),
            (true, _) => Ok(()),
        }
    }

    /// A release that was cancelled may have done its work. Where it may not have,
    /// another one could take away an outer hold, for the server does not show how
    /// often a lock is held: then the session has to end.
    async fn after_failed_release(&self, driver: &mut impl Driver, error: Error) -> Result<()> {
        if not_in_transaction(driver) && !might_hold(driver, self.target).await {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Returns `true` if no transaction is open.
pub(crate) fn not_in_transaction(driver: &mut impl Driver) -> bool {
    driver.depth().is_ok_and(|depth| depth == 0)
}

/// Returns `true` if this session holds the lock, or cannot be asked.
pub(crate) async fn might_hold(driver: &mut impl Driver, target: AdvisoryTarget) -> bool {
    driver.ask(AdvisoryHeld(target)).await.unwrap_or(true)
}

/// Two statements met two backends.
pub(crate) fn session_changed(target: AdvisoryTarget, expected: i32, found: i32) -> Error {
    Error::SessionChanged {
        what: target.to_string(),
        expected,
        found: (found != expected).then_some(found),
    }
}
