//! Setting `lock_timeout` for a while.

use std::time::Duration;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Text};

use crate::driver::{Driver, Unsettled};
use crate::statement::query;
use crate::timeout::millis;
use crate::{Error, Result};

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
        out.push_sql("SELECT previous.value, set_config('lock_timeout', ");
        out.push_bind_param::<Text, _>(&self.value)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql("), pg_backend_pid() FROM (SELECT current_setting('lock_timeout') AS value OFFSET 0) AS previous");
        Ok(())
    }
}

/// A `lock_timeout` that is to be put back.
#[derive(Debug)]
pub(crate) struct Previous {
    value: String,
    local: bool,
    backend: i32,
}

impl Previous {
    /// Whether the end of the transaction puts it back in any case.
    #[cfg(feature = "async")]
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }
}

/// Sets `lock_timeout`; `None` means no limit.
pub(crate) async fn set(driver: &mut impl Driver, timeout: Option<Duration>) -> Result<Previous> {
    let value = timeout.map_or(Ok(0), millis)?.to_string();
    let local = driver.depth()? > 0;
    let swap = SwapLockTimeout { value, local };
    let mut session = Unsettled::unless(local, driver);
    let reply = session.driver().ask(swap).await;
    session.settle();
    let (value, _, backend) = reply?;
    Ok(Previous {
        value,
        local,
        backend,
    })
}

/// Puts `lock_timeout` back.
///
/// In a transaction a failure means that it is aborted, and then its rollback
/// puts the value back. Outside of one the connection is marked broken.
pub(crate) async fn restore(driver: &mut impl Driver, previous: Previous) -> Result<()> {
    let Previous {
        value,
        local,
        backend,
    } = previous;
    let mut session = Unsettled::unless(local, driver);
    let swap = SwapLockTimeout { value, local };
    match session.driver().ask(swap).await {
        Ok((_, _, found)) if found != backend => Err(Error::SessionChanged {
            what: "`lock_timeout`".to_owned(),
            expected: backend,
            found,
        }),
        Err(error) if !local => Err(error),
        Ok(_) | Err(_) => {
            session.settle();
            Ok(())
        }
    }
}
