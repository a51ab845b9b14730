//! Acquires advisory locks: the order of the statements, and the consequences of each reply.

use std::fmt;
use std::time::Duration;

use super::hold::{AdvisoryHold, after_uncertain_reply, session_changed, unlock};
use super::holders::holders;
use super::statement::{AdvisoryTarget, Tried, TryAdvisoryLock, WaitKind};
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::EndSessionOnDrop;
use crate::session::{ACQUIRED, BackendPid, TakeOutcome};
use crate::timeout::{LockRequest, lock_request};
use crate::timeout::{WaitLimit, WaitOption, jitter};
use crate::views::PgLock;

/// A session's lock under which a closure runs; in a transaction a savepoint is open once it
/// is held, which [`AdvisoryHold::leave`] closes.
pub(crate) struct SessionLock(pub(crate) AdvisoryTarget);

/// A transaction's lock.
pub(crate) struct XactLock(pub(crate) AdvisoryTarget);

impl fmt::Display for SessionLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for XactLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LockRequest for SessionLock {
    type Held = AdvisoryHold;

    async fn take(
        &self,
        driver: &mut impl Driver,
        limit: WaitLimit,
    ) -> Result<Option<AdvisoryHold>> {
        take(driver, self.0, limit).await
    }

    async fn holders(&self, driver: &mut impl Driver) -> Result<Vec<PgLock>> {
        holders(driver, &self.0).await
    }
}

impl LockRequest for XactLock {
    type Held = ();

    async fn take(&self, driver: &mut impl Driver, limit: WaitLimit) -> Result<Option<()>> {
        driver.require_transaction()?;
        let backend = attempt(driver, self.0, limit).await;
        Ok(backend.map_err(|failed| failed.error)?.map(drop))
    }

    async fn holders(&self, driver: &mut impl Driver) -> Result<Vec<PgLock>> {
        holders(driver, &self.0).await
    }
}

/// Acquires a session's lock that a guard holds, without a savepoint.
pub(crate) async fn acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: WaitOption,
) -> Result<AdvisoryHold> {
    let hold = lock_request::acquire(driver, &SessionLock(target), wait).await?;
    without_savepoint(driver, hold).await
}

/// Acquires a session's lock that a guard holds; `None` if it is busy.
pub(crate) async fn try_acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: WaitOption,
) -> Result<Option<AdvisoryHold>> {
    match lock_request::try_acquire(driver, &SessionLock(target), wait).await? {
        Some(hold) => without_savepoint(driver, hold).await.map(Some),
        None => Ok(None),
    }
}

/// Closes the savepoint that the lock was taken behind; should that fail, the lock goes too.
async fn without_savepoint(driver: &mut impl Driver, hold: AdvisoryHold) -> Result<AdvisoryHold> {
    if hold.depth == 0 {
        return Ok(hold);
    }
    let mut session = EndSessionOnDrop::new(driver);
    let closed = session.driver().close(hold.depth, true).await;
    session.disarm();
    match closed {
        Ok(()) => Ok(hold),
        Err(error) => {
            unlock(driver, hold.target, hold.backend).await;
            Err(error)
        }
    }
}

/// In a transaction a savepoint is opened first: only a session that is not in an aborted
/// transaction can say whether a statement that failed took the lock.
///
/// A future dropped in here may leave the lock behind, so the session then ends.
async fn take(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    limit: WaitLimit,
) -> Result<Option<AdvisoryHold>> {
    let depth = driver.depth()?;
    let mut session = EndSessionOnDrop::new(driver);
    let backend = take_at(session.driver(), target, limit, depth).await;
    session.disarm();
    let hold = |backend| AdvisoryHold {
        target,
        backend,
        depth,
    };
    Ok(backend?.map(hold))
}

async fn take_at(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    limit: WaitLimit,
    depth: u32,
) -> Result<Option<i32>> {
    if depth > 0 {
        driver.begin().await?;
    }
    match attempt(driver, target, limit).await {
        Ok(Some(backend)) => Ok(Some(backend)),
        Ok(None) if depth > 0 => driver.close(depth, true).await.map(|()| None),
        Ok(None) => Ok(None),
        Err(Failed { error, refused }) => {
            // Behind the savepoint the session answers again.
            let answers = driver.unwind(depth).await.is_ok();
            after_uncertain_reply(driver, target, answers, refused).await;
            Err(error)
        }
    }
}

/// A statement failed that may have taken the lock: a cancel can come at its very end.
struct Failed {
    error: Error,
    /// The backend that had not held the lock before, since its try was refused.
    refused: Option<i32>,
}

impl Failed {
    fn after<E: Into<Error>>(refused: Option<i32>) -> impl FnOnce(E) -> Self {
        move |error| Self {
            error: error.into(),
            refused,
        }
    }
}

/// The average pause between two polls for a lock.
const POLL: Duration = Duration::from_millis(100);

/// Tries in one round trip, and waits only if the try was refused.
///
/// The try never overtakes: it is refused while other sessions wait in the queue.
async fn attempt(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    limit: WaitLimit,
) -> Result<Option<i32>, Failed> {
    let (refused, backend) = try_once(driver, target, None).await?;
    let Some(wait) = refused else {
        return Ok(Some(backend));
    };
    if matches!(limit, WaitLimit::NoWait) {
        return Ok(None);
    }
    crate::trace::waiting(&target);
    let acquired = if target.polling {
        poll_for(driver, target, limit, backend).await?
    } else if matches!(limit, WaitLimit::SessionTimeout) && wait != WaitKind::WithTimeout {
        wait_plainly(driver, target, wait, backend).await?
    } else {
        wait_for(driver, target, limit, backend).await?
    };
    Ok(acquired.then_some(backend))
}

/// Tries once; returns how to wait if the lock is busy. `refused` is the backend that refused the
/// try before.
async fn try_once(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    refused: Option<i32>,
) -> Result<(Option<WaitKind>, i32), Failed> {
    let reply = TryAdvisoryLock(target).ask(driver).await;
    match reply.map_err(Failed::after(refused))? {
        (Tried::Granted, backend) => Ok((None, backend)),
        (Tried::Refused(wait), backend) => Ok((Some(wait), backend)),
        (Tried::InRecovery, _) => Err(Failed::after(refused)(Error::InRecovery)),
    }
}

/// Tries again after random pauses until the limit; `true` if the lock was acquired.
async fn poll_for(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    limit: WaitLimit,
    backend: i32,
) -> Result<bool, Failed> {
    loop {
        let pause = jitter(POLL);
        let pause = limit.remaining().map_or(pause, |left| left.min(pause));
        driver.pause(pause).await;
        let (wait, found) = try_once(driver, target, Some(backend)).await?;
        let granted = wait.is_none();
        if granted && found != backend {
            let changed = session_changed(target, backend, found);
            return Err(Failed::after(Some(found))(changed));
        }
        if granted || limit.remaining().is_some_and(|left| left.is_zero()) {
            return Ok(granted);
        }
    }
}

/// Waits on the backend whose try was refused; `true` if the lock was acquired.
async fn wait_for(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    limit: WaitLimit,
    backend: i32,
) -> Result<bool, Failed> {
    let local = driver.depth().map_err(Failed::after(None))? > 0;
    let wait = target.block(local).message(limit);
    let waited = driver.batch_execute(&wait).await;
    waited.map_err(Failed::after(Some(backend)))?;
    let outcome = driver.ask(TakeOutcome { local }).await;
    let (outcome, found) = outcome.map_err(Failed::after(Some(backend)))?;
    match outcome {
        Some(outcome) if found == backend => Ok(outcome == ACQUIRED),
        // The lock that the wait may have brought to another backend is of no use.
        _ => Err(Failed::after(Some(found))(session_changed(
            target, backend, found,
        ))),
    }
}

/// Waits without a lock timeout: no failure means that the lock is busy, and none is read while
/// others wait for it.
async fn wait_plainly(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: WaitKind,
    backend: i32,
) -> Result<bool, Failed> {
    let local = driver.depth().map_err(Failed::after(None))? > 0;
    let wait = target.plain_wait(backend, wait == WaitKind::WithClientCheck, local);
    let Err(error) = driver.batch_execute(&wait).await else {
        return Ok(true);
    };
    if !local {
        // Another backend of a pooler refuses to wait.
        match driver.ask(BackendPid).await {
            Ok(found) if found != backend => {
                let changed = session_changed(target, backend, found);
                return Err(Failed::after(Some(found))(changed));
            }
            _ => {}
        }
    }
    Err(Failed::after(Some(backend))(error))
}
