//! Setting `lock_timeout` for a while.

use std::time::Duration;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Nullable, Text};

use super::wait::millis;
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::EndSessionOnDrop;
use crate::session::query;

/// Sets `lock_timeout`: the value before and the backend that has it now.
#[derive(Debug)]
struct SwapLockTimeout {
    value: String,
    /// Until the transaction ends, rather than the session.
    local: bool,
}

query!(SwapLockTimeout => (Text, Text, Integer), (String, String, i32));

impl QueryFragment<Pg> for SwapLockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // OFFSET 0 keeps the subquery apart, so that the old value is read first.
        out.push_sql("SELECT previous.value, pg_catalog.set_config('lock_timeout', ");
        out.push_bind_param::<Text, _>(&self.value)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql(
            "), pg_catalog.pg_backend_pid() FROM \
             (SELECT pg_catalog.current_setting('lock_timeout') AS value OFFSET 0) AS previous",
        );
        Ok(())
    }
}

/// Restores `lock_timeout`, and returns the backend that ran the statement.
///
/// Behind a pooler another backend may be asked; its value is left alone.
#[derive(Clone, Debug)]
struct RestoreLockTimeout {
    value: String,
    local: bool,
    backend: i32,
}

query!(RestoreLockTimeout => (Nullable<Text>, Integer), (Option<String>, i32));

impl QueryFragment<Pg> for RestoreLockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT CASE WHEN pg_catalog.pg_backend_pid() = ");
        out.push_bind_param::<Integer, _>(&self.backend)?;
        out.push_sql(" THEN pg_catalog.set_config('lock_timeout', ");
        out.push_bind_param::<Text, _>(&self.value)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql(") END, pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// A `lock_timeout` that is to be put back.
#[derive(Debug)]
pub(crate) struct Previous {
    restore: RestoreLockTimeout,
    /// The number of transactions that were open when it was replaced.
    depth: u32,
}

impl Previous {
    /// Returns `true` if the end of the transaction restores it in any case.
    pub(crate) fn is_local(&self) -> bool {
        self.restore.local
    }
}

/// Sets `lock_timeout`; `None` means no limit.
pub(crate) async fn set(driver: &mut impl Driver, timeout: Option<Duration>) -> Result<Previous> {
    let value = timeout.map_or(Ok(0), millis)?.to_string();
    let depth = driver.depth()?;
    let local = depth > 0;
    let swap = SwapLockTimeout { value, local };
    let mut session = EndSessionOnDrop::armed_if(!local, driver);
    let reply = session.driver().ask(swap).await;
    session.disarm();
    let (value, _, backend) = reply?;
    let restore = RestoreLockTimeout {
        value,
        local,
        backend,
    };
    Ok(Previous { restore, depth })
}

/// Puts `lock_timeout` back.
///
/// A transaction that the closure abandoned is rolled back first, or its rollback would undo
/// the restoring. In a transaction a failure means that it is aborted, and then its rollback
/// puts the value back. Outside of one the session has to end.
pub(crate) async fn restore(driver: &mut impl Driver, previous: Previous) -> Result<()> {
    let mut session = EndSessionOnDrop::armed_if(!previous.is_local(), driver);
    // A rollback that fails leaves the rest to fail, which ends the session.
    let _ = session.driver().unwind(previous.depth).await;
    let restored = reset(session.driver(), &previous.restore).await;
    match restored {
        Ok(()) => session.disarm(),
        Err(_) if previous.is_local() => return Ok(()),
        Err(Error::SessionChanged { .. }) => session.mark_broken(),
        Err(_) => session.end().await,
    }
    restored
}

/// Tries a second time after a failure, such as a cancel: setting twice does no harm.
async fn reset(driver: &mut impl Driver, restore: &RestoreLockTimeout) -> Result<()> {
    let reply = match driver.ask(restore.clone()).await {
        Err(_) if !restore.local => driver.ask(restore.clone()).await,
        reply => reply,
    };
    match reply? {
        (_, found) if found != restore.backend => Err(Error::SessionChanged {
            what: "`lock_timeout`".to_owned(),
            expected: restore.backend,
            found: Some(found),
        }),
        _ => Ok(()),
    }
}
