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
        let released = match unlock.ask(session.driver()).await {
            Ok(reply) => self.released(reply),
            Err(error) => {
                // In an aborted transaction the session does not answer.
                let answers = not_in_transaction(session.driver());
                let is_free = after_uncertain_reply(session.driver(), target, answers, None).await;
                if is_free { Ok(()) } else { Err(error) }
            }
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
}

/// Leaves the session without the lock after a statement that failed: it may have acquired or
/// released the lock, because a cancel can come at its very end. Returns `false` if the session
/// had to end.
///
/// The server does not show how often a lock is held. A hold may be an outer one, unless the
/// backend had refused a try before, so it cannot be released, and the session ends.
pub(crate) async fn after_uncertain_reply(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    answers: bool,
    refused: Option<i32>,
) -> bool {
    if answers && !might_hold(driver, target).await {
        return true;
    }
    match refused {
        Some(backend) if answers => unlock(driver, target, backend).await,
        _ => {
            driver.end_session().await;
            false
        }
    }
}

/// Releases a lock that was acquired once more than wanted; if that fails, the session ends.
pub(crate) async fn unlock(driver: &mut impl Driver, target: AdvisoryTarget, backend: i32) -> bool {
    let unlock = AdvisoryUnlock { target, backend };
    let released = unlock.ask(driver).await.is_ok();
    if !released {
        driver.end_session().await;
    }
    released
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
