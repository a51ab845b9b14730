//! Taking a table lock: the order of statements, and what follows from each reply.

use std::time::Instant;

use crate::driver::Driver;
use crate::statement::{ACQUIRED, TakeOutcome};
use crate::table_holders::holders;
use crate::table_statement::TableTarget;
use crate::timeout::{Patience, Wait};
use crate::{Error, Result};

/// Takes the lock or says who has it.
pub(crate) async fn acquire(
    driver: &mut impl Driver,
    target: TableTarget,
    wait: Wait,
) -> Result<()> {
    let started = Instant::now();
    if take(driver, &target, wait.of_acquire()?).await? {
        return Ok(());
    }
    Err(Error::NotAcquired {
        lock: target.to_string(),
        waited: wait.since(started),
        holders: holders(driver, target).await?,
    })
}

/// Takes the lock; `false` when somebody else is in the way.
pub(crate) async fn try_acquire(
    driver: &mut impl Driver,
    target: TableTarget,
    wait: Wait,
) -> Result<bool> {
    take(driver, &target, wait.of_try()?).await
}

async fn take(driver: &mut impl Driver, target: &TableTarget, patience: Patience) -> Result<bool> {
    driver.require_transaction()?;
    let started = Instant::now();
    let message = target.block(patience).message(patience);
    driver.batch_execute(&message).await?;
    let (outcome, _) = driver.ask(TakeOutcome { local: true }).await?;
    let acquired = outcome.as_deref() == Some(ACQUIRED);
    crate::trace::locked(target, acquired, started.elapsed());
    Ok(acquired)
}
