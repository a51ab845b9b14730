//! Acquires table locks.

use super::holders::holders;
use super::statement::TableTarget;
use crate::error::Result;
use crate::session::Driver;
use crate::session::{ACQUIRED, TakeOutcome};
use crate::timeout::LockRequest;
use crate::timeout::WaitLimit;
use crate::trace;
use crate::views::PgLock;

impl LockRequest for TableTarget {
    type Held = ();

    async fn take(&self, driver: &mut impl Driver, limit: WaitLimit) -> Result<Option<()>> {
        driver.require_transaction()?;
        if !matches!(limit, WaitLimit::NoWait) {
            trace::waiting(self);
        }
        let message = self.block(limit).message(limit);
        driver.batch_execute(&message).await?;
        let (outcome, _) = driver.ask(TakeOutcome { local: true }).await?;
        Ok((outcome.as_deref() == Some(ACQUIRED)).then_some(()))
    }

    async fn holders(&self, driver: &mut impl Driver) -> Result<Vec<PgLock>> {
        holders(driver, self.clone()).await
    }
}
