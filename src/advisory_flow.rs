//! Taking an advisory lock: the order of statements, and what follows from each reply.

use std::time::{Duration, Instant};

use crate::advisory_hold::{AdvisoryHold, is_outside, may_hold, session_changed};
use crate::advisory_statement::{
    AdvisoryTarget, AdvisoryUnlock, TryAdvisoryLock, WaitForAdvisoryLock,
};
use crate::driver::{Driver, Unsettled};
use crate::statement::{ACQUIRED, TakeOutcome};
use crate::timeout::{Patience, Wait};
use crate::{Error, Result, obstacle};

/// Takes a session lock or says who has it.
pub(crate) async fn acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<AdvisoryHold> {
    let started = Instant::now();
    match take(driver, target, wait.of_acquire()?).await? {
        Some(hold) => Ok(hold),
        None => not_acquired(driver, target, wait.since(started)).await,
    }
}

/// Takes a session lock; `None` when somebody else has it.
pub(crate) async fn try_acquire(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    wait: Wait,
) -> Result<Option<AdvisoryHold>> {
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
        false => not_acquired(driver, target, wait.since(started)).await,
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

async fn not_acquired<T>(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    waited: Duration,
) -> Result<T> {
    Err(Error::NotAcquired {
        lock: target.to_string(),
        waited,
        holders: obstacle::to_advisory(driver, &target).await?,
    })
}

async fn take_xact(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<bool> {
    driver.require_transaction()?;
    let (granted, backend) = driver.ask(TryAdvisoryLock(target)).await?;
    Ok(granted || wait_for(driver, target, patience, backend).await?)
}

/// A future dropped in here may leave the lock behind, so the session then ends.
async fn take(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
) -> Result<Option<AdvisoryHold>> {
    let depth = driver.depth()?;
    let mut session = Unsettled::new(driver);
    let backend = attempt(session.driver(), target, patience).await;
    session.settle();
    let hold = |backend| AdvisoryHold {
        target,
        backend,
        depth,
    };
    Ok(backend?.map(hold))
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
        Err(error) => {
            after_failed_try(driver, target).await;
            return Err(error);
        }
    };
    let acquired = granted || wait_for(driver, target, patience, backend).await?;
    Ok(acquired.then_some(backend))
}

/// A try that was cancelled at its very end may have left the lock behind.
async fn after_failed_try(driver: &mut impl Driver, target: AdvisoryTarget) {
    // In a transaction, which the error has aborted, nobody can look.
    if is_outside(driver) && may_hold(driver, target).await {
        driver.end_session().await;
    }
}

/// Waits on the server, on the backend whose try said no; whether the lock came.
async fn wait_for(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    patience: Patience,
    backend: i32,
) -> Result<bool> {
    let timeout = match patience {
        Patience::None => return Ok(false),
        Patience::Session => None,
        Patience::Until(deadline) => Some(deadline.remaining_millis()),
    };
    crate::trace::waiting(&target);
    let local = driver.depth()? > 0;
    let wait = WaitForAdvisoryLock {
        target,
        timeout,
        local,
    };
    if let Err(error) = driver.execute(wait).await {
        after_failed_wait(driver, target, backend).await;
        return Err(error.into());
    }
    match driver.ask(TakeOutcome { local }).await {
        Ok((Some(outcome), found)) if found == backend => Ok(outcome == ACQUIRED),
        Ok((_, found)) => Err(after_changed_session(driver, target, backend, found).await),
        Err(error) => {
            after_unread_outcome(driver, target, backend).await;
            Err(error)
        }
    }
}

/// The server gives the lock back when a wait fails, but a cancel may come when
/// it is past that. Before the wait the session did not hold the lock, or it
/// would have been granted at once: what it holds now is not an outer hold.
async fn after_failed_wait(driver: &mut impl Driver, target: AdvisoryTarget, backend: i32) {
    let session_lock = !target.xact && is_outside(driver);
    if session_lock && may_hold(driver, target).await {
        give_back(driver, target, backend).await;
    }
}

/// The wait may have brought the lock, and nobody will know.
async fn after_unread_outcome(driver: &mut impl Driver, target: AdvisoryTarget, backend: i32) {
    if !target.xact {
        give_back(driver, target, backend).await;
    }
}

async fn give_back(driver: &mut impl Driver, target: AdvisoryTarget, backend: i32) {
    if driver
        .ask(AdvisoryUnlock { target, backend })
        .await
        .is_err()
    {
        driver.end_session().await;
    }
}

/// The lock that a wait on another backend may have brought is of no use; it is
/// given back if that backend can still be reached.
async fn after_changed_session(
    driver: &mut impl Driver,
    target: AdvisoryTarget,
    expected: i32,
    found: i32,
) -> Error {
    after_failed_wait(driver, target, found).await;
    session_changed(target, expected, found)
}
