//! Taking and giving back an advisory lock: the order of statements, and what follows from each reply.

use std::time::Instant;

use crate::advisory_statement::{
    AdvisoryHeld, AdvisoryTarget, AdvisoryUnlock, TryAdvisoryLock, WaitForAdvisoryLock,
};
use crate::driver::{Driver, Unsettled};
use crate::statement::{ACQUIRED, TakeOutcome};
use crate::timeout::{Patience, Wait};
use crate::{Error, Result};

/// What `.xact()` takes, in an error.
pub(crate) const XACT_LOCK: &str = "a transaction's advisory lock";

/// A session lock that was taken and has to be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    target: AdvisoryTarget,
    /// The backend that has the lock; behind a pooler the next statement may meet another.
    backend: i32,
    /// How many transactions were open when it was taken.
    depth: u32,
}

/// Takes a session lock or says who has it.
pub(crate) async fn acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<Held> {
    let started = Instant::now();
    match take(driver, target, wait.of_acquire()?).await? {
        Some(held) => Ok(held),
        None => Err(not_acquired(target, started)),
    }
}

/// Takes a session lock; `None` when somebody else has it.
pub(crate) async fn try_acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<Option<Held>> {
    take(driver, target, wait.of_try()?).await
}

/// Takes a transaction's lock or says who has it.
pub(crate) async fn acquire_xact(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<()> {
    let started = Instant::now();
    match take_xact(driver, target, wait.of_acquire()?).await? {
        true => Ok(()),
        false => Err(not_acquired(target, started)),
    }
}

/// Takes a transaction's lock; `false` when somebody else has it.
pub(crate) async fn try_acquire_xact(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<bool> {
    take_xact(driver, target, wait.of_try()?).await
}

fn not_acquired(target: AdvisoryTarget, started: Instant) -> Error {
    Error::NotAcquired {
        lock: target.to_string(),
        waited: started.elapsed(),
    }
}

async fn take_xact(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<bool> {
    driver.require_transaction(XACT_LOCK)?;
    let (granted, _) = driver.ask(TryAdvisoryLock(target)).await?;
    Ok(granted || wait_for(driver, target, patience).await?.is_some())
}

/// A future dropped in here may leave the lock behind, so the connection is then marked broken.
async fn take(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<Option<Held>> {
    let depth = driver.depth()?;
    let mut session = Unsettled::new(driver);
    let backend = attempt(session.driver(), target, patience).await;
    session.settle();
    let held = |backend| Held {
        target,
        backend,
        depth,
    };
    Ok(backend?.map(held))
}

/// First a try, in one round trip; a wait only when that said no.
///
/// The try never overtakes: it says no while somebody waits in the queue.
async fn attempt(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<Option<i32>> {
    let (granted, backend) = match driver.ask(TryAdvisoryLock(target)).await {
        Ok(reply) => reply,
        Err(error) => return Err(after_failed_try(driver, target, error).await),
    };
    if granted {
        return Ok(Some(backend));
    }
    match wait_for(driver, target, patience).await? {
        Some(found) if found != backend => Err(session_changed(target, backend, found)),
        acquired => Ok(acquired),
    }
}

/// A try that was cancelled at its very end may have left the lock behind.
async fn after_failed_try(driver: &mut impl Driver, target: AdvisoryTarget, error: Error) -> Error {
    // In a transaction, which the error has aborted, nobody can look.
    let may_look = driver.depth().is_ok_and(|depth| depth == 0);
    if may_look && driver.ask(AdvisoryHeld(target)).await.unwrap_or(true) {
        driver.status().set_in_error();
    }
    error
}

/// Waits on the server; the backend that has the lock now, or `None`.
async fn wait_for(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<Option<i32>> {
    let timeout = match patience {
        Patience::None => return Ok(None),
        Patience::Session => None,
        Patience::Until(deadline) => Some(deadline.remaining_millis()),
    };
    let local = driver.depth()? > 0;
    let wait = WaitForAdvisoryLock {
        target,
        timeout,
        local,
    };
    driver.execute(wait).await?;
    match driver.ask(TakeOutcome { local }).await {
        Ok((outcome, backend)) => Ok((outcome.as_deref() == Some(ACQUIRED)).then_some(backend)),
        Err(error) => Err(after_unread_outcome(driver, target, error).await),
    }
}

/// The wait may have brought the lock, and nobody will know.
async fn after_unread_outcome(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    error: Error,
) -> Error {
    if !target.xact && driver.ask(AdvisoryUnlock(target)).await.is_err() {
        driver.status().set_in_error();
    }
    error
}

/// Gives a session lock back, once.
///
/// When that cannot be done, as in an aborted transaction, the connection is
/// marked broken: a pool drops it, and the lock goes with the session.
pub(crate) async fn release(driver: &mut impl Driver, held: &Held) -> Result<()> {
    let mut session = Unsettled::new(driver);
    let reply = session.driver().ask(AdvisoryUnlock(held.target)).await;
    let released = released(held, reply);
    match released {
        Err(Error::NotHeld(_)) | Ok(()) => session.settle(),
        Err(_) => drop(session),
    }
    released
}

fn released(held: &Held, reply: Result<(bool, i32)>) -> Result<()> {
    match reply? {
        (_, backend) if backend != held.backend => {
            Err(session_changed(held.target, held.backend, backend))
        }
        (false, _) => Err(Error::NotHeld(held.target.key)),
        (true, _) => Ok(()),
    }
}

fn session_changed(target: AdvisoryTarget, expected: i32, found: i32) -> Error {
    Error::SessionChanged {
        what: target.to_string(),
        expected,
        found,
    }
}

/// Before a closure runs under the lock: in a transaction it gets a savepoint,
/// so that the lock can be released after an error in it.
pub(crate) async fn enter(driver: &mut impl Driver, held: &Held) -> Result<()> {
    match held.depth {
        0 => Ok(()),
        _ => Ok(driver.begin().await?),
    }
}

/// After the closure: closes the savepoint as the closure ended, then releases.
pub(crate) async fn leave(driver: &mut impl Driver, held: &Held, succeeded: bool) -> Result<()> {
    let closed = match held.depth {
        0 => Ok(()),
        depth => driver.close(depth, succeeded).await,
    };
    release(driver, held).await?;
    closed
}

/// After a panic: whatever transaction the closure left open is rolled back first.
pub(crate) async fn abandon(driver: &mut impl Driver, held: &Held) -> Result<()> {
    // A rollback that fails leaves the release to fail, which marks the connection.
    let _ = driver.unwind(held.depth).await;
    release(driver, held).await
}
