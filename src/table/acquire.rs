//! Acquires table locks.

use super::holders::holders;
use super::statement::TableTarget;
use crate::error::Result;
use crate::session::Driver;
use crate::session::{ACQUIRED, TakeOutcome};
use crate::timeout::LockRequest;
use crate::timeout::{Reply, WaitLimit, is_busy};
use crate::trace;
use crate::views::PgLock;

impl LockRequest for TableTarget {
    type Held = ();

    async fn take(&self, driver: &mut impl Driver, limit: WaitLimit) -> Result<Option<()>> {
        driver.require_transaction()?;
        if !matches!(limit, WaitLimit::NoWait) {
            trace::waiting(self);
        }
        let reply = Reply::Outcome { local: true };
        let message = self.block(limit, reply).message(limit);
        driver.batch_execute(&message).await?;
        let (outcome, _) = driver.ask(TakeOutcome { local: true }).await?;
        Ok((outcome.as_deref() == Some(ACQUIRED)).then_some(()))
    }

    /// Reads no outcome, unless it is a refusal at once, which the server does not log as an error.
    async fn take_first(&self, driver: &mut impl Driver, limit: WaitLimit) -> Result<Option<()>> {
        if matches!(limit, WaitLimit::NoWait) {
            return self.take(driver, limit).await;
        }
        trace::waiting(self);
        let message = self.block(limit, Reply::Error).message(limit);
        match driver.batch_execute(&message).await {
            Ok(()) => Ok(Some(())),
            Err(error) if is_busy(&error) => {
                driver.rollback().await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn holders(&self, driver: &mut impl Driver) -> Result<Vec<PgLock>> {
        holders(driver, self.clone()).await
    }
}
