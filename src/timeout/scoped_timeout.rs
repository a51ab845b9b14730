//! Timeouts that are set for a scope.

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Integer, Nullable, Text};
use diesel::{Connection, QueryResult};
#[cfg(feature = "async")]
use diesel_async::AsyncConnection;

use super::wait::millis;
use crate::error::{Error, Result};
#[cfg(feature = "async")]
use crate::session::AsyncDriver;
#[cfg(feature = "async")]
use crate::session::async_scope::{AsyncClosure, end};
use crate::session::{Driver, EndSessionOnDrop, SyncDriver, query, run_or_undo, run_ready};

/// A setting that limits statements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimeoutSetting {
    /// The limit of each wait for a lock.
    Lock,
    /// The limit of each statement.
    Statement,
}

impl TimeoutSetting {
    /// Returns the name of the setting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock_timeout",
            Self::Statement => "statement_timeout",
        }
    }
}

/// Sets a timeout, and returns the value before and the backend that has the new one.
#[derive(Debug)]
struct SwapTimeout {
    setting: TimeoutSetting,
    value: String,
    /// Until the transaction ends, rather than the session.
    local: bool,
}

query!(SwapTimeout => (Text, Text, Integer), Swapped);

impl QueryFragment<Pg> for SwapTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // OFFSET 0 keeps the subquery apart, so that the old value is read first.
        out.push_sql("SELECT previous.value, pg_catalog.set_config('");
        out.push_sql(self.setting.name());
        out.push_sql("', ");
        out.push_bind_param::<Text, _>(&self.value)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql("), pg_catalog.pg_backend_pid() FROM (SELECT pg_catalog.current_setting('");
        out.push_sql(self.setting.name());
        out.push_sql("') AS value OFFSET 0) AS previous");
        Ok(())
    }
}

/// Restores a timeout, and returns the backend that ran the statement.
///
/// Behind a pooler another backend may be asked; its value is left alone.
#[derive(Clone, Debug)]
struct RestoreTimeout {
    setting: TimeoutSetting,
    value: String,
    local: bool,
    backend: i32,
    /// Leaves any other value than this in force.
    only_if: Option<String>,
}

query!(RestoreTimeout => (Nullable<Text>, Integer), (Option<String>, i32));

impl QueryFragment<Pg> for RestoreTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT CASE WHEN pg_catalog.pg_backend_pid() = ");
        out.push_bind_param::<Integer, _>(&self.backend)?;
        if let Some(only_if) = &self.only_if {
            out.push_sql(" AND pg_catalog.current_setting('");
            out.push_sql(self.setting.name());
            out.push_sql("') OPERATOR(pg_catalog.=) ");
            out.push_bind_param::<Text, _>(only_if)?;
        }
        out.push_sql(" THEN pg_catalog.set_config('");
        out.push_sql(self.setting.name());
        out.push_sql("', ");
        out.push_bind_param::<Text, _>(&self.value)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql(") END, pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// A timeout to restore.
#[derive(Debug)]
pub(crate) struct Previous {
    restore: RestoreTimeout,
    /// The value that replaced it, as the server writes it.
    #[cfg_attr(not(feature = "migrations"), allow(dead_code))]
    replacement: String,
    /// The number of transactions that were open when it was replaced.
    depth: u32,
}

impl Previous {
    /// Returns `true` if the end of the transaction restores it in any case.
    pub(crate) fn is_local(&self) -> bool {
        self.restore.local
    }
}

/// The reply to a statement that replaced a timeout: the values before and after it, as the server
/// writes them, and the backend that has the new one.
pub(crate) type Swapped = (String, String, i32);

impl Previous {
    /// Returns the timeout that a statement replaced, while `depth` transactions were open.
    pub(crate) fn swapped(setting: TimeoutSetting, swapped: Swapped, depth: u32) -> Self {
        let (value, replacement, backend) = swapped;
        let restore = RestoreTimeout {
            setting,
            value,
            local: depth > 0,
            backend,
            only_if: None,
        };
        Self {
            restore,
            replacement,
            depth,
        }
    }

    /// Returns the timeout to restore after two replacements: this one, unless another value was
    /// in force by the second.
    #[cfg(feature = "migrations")]
    pub(crate) fn then(self, second: Self) -> Result<Self> {
        session_is(&self.restore, second.restore.backend)?;
        let value = match second.restore.value == self.replacement {
            true => self.restore.value,
            false => second.restore.value,
        };
        let restore = RestoreTimeout {
            value,
            ..second.restore
        };
        Ok(Self { restore, ..second })
    }
}

/// Sets a timeout; `None` means no limit.
pub(crate) async fn set(
    driver: &mut impl Driver,
    setting: TimeoutSetting,
    timeout: Option<Duration>,
) -> Result<Previous> {
    let value = timeout.map_or(Ok(0), millis)?.to_string();
    let depth = driver.depth()?;
    let local = depth > 0;
    let swap = SwapTimeout {
        setting,
        value,
        local,
    };
    let mut session = EndSessionOnDrop::armed_if(!local, driver);
    let reply = session.driver().ask(swap).await;
    session.disarm();
    Ok(Previous::swapped(setting, reply?, depth))
}

/// The number of further attempts to restore a timeout.
const RETRIES: u32 = 3;

/// Restores the timeout.
///
/// A transaction that the closure abandoned is rolled back first, or its rollback would undo
/// the restoring. In a transaction a failure means that it is aborted: its rollback restores the
/// value, and the error keeps the caller from committing what is lost. Outside of one the
/// session has to end.
pub(crate) async fn restore(driver: &mut impl Driver, previous: Previous) -> Result<()> {
    let mut session = EndSessionOnDrop::armed_if(!previous.is_local(), driver);
    // A rollback that fails leaves the rest to fail, which ends the session.
    let _ = session.driver().unwind(previous.depth).await;
    let restored = reset(session.driver(), &previous.restore).await;
    match restored {
        Ok(()) => session.disarm(),
        Err(_) if previous.is_local() => {}
        Err(Error::SessionChanged { .. }) => session.mark_broken(),
        Err(_) => session.end().await,
    }
    restored
}

/// Restores the timeout, unless another one than the replacement is in force by now.
#[cfg(feature = "migrations")]
pub(crate) async fn restore_unless_changed(
    driver: &mut impl Driver,
    mut previous: Previous,
) -> Result<()> {
    previous.restore.only_if = Some(previous.replacement.clone());
    restore(driver, previous).await
}

/// Tries again after a failure, such as a cancel or the very timeout: setting twice does no harm.
async fn reset(driver: &mut impl Driver, restore: &RestoreTimeout) -> Result<()> {
    let mut reply = driver.ask(restore.clone()).await;
    for _ in 0..RETRIES {
        if reply.is_ok() || restore.local {
            break;
        }
        reply = driver.ask(restore.clone()).await;
    }
    session_is(restore, reply?.1)
}

/// Refuses a reply from another backend than the one whose timeout was replaced.
fn session_is(restore: &RestoreTimeout, found: i32) -> Result<()> {
    if found == restore.backend {
        return Ok(());
    }
    Err(Error::SessionChanged {
        what: format!("`{}`", restore.setting.name()),
        expected: restore.backend,
        found: Some(found),
    })
}

/// Runs `f` under a timeout on a sync connection.
pub(crate) fn run_with<C, R, E>(
    conn: &mut C,
    setting: TimeoutSetting,
    timeout: Option<Duration>,
    f: impl FnOnce(&mut C) -> Result<R, E>,
) -> Result<R, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    E: From<Error>,
{
    let previous = run_ready(set(&mut SyncDriver(conn), setting, timeout))?;
    let (result, previous) = run_or_undo(conn, previous, f, |conn, previous| {
        let _ = run_ready(restore(&mut SyncDriver(conn), previous));
    });
    let restored = run_ready(restore(&mut SyncDriver(conn), previous));
    result.and_then(|value| Ok(restored.map(|()| value)?))
}

/// Runs `f` under a timeout on an async connection.
#[cfg(feature = "async")]
pub(crate) async fn run_with_async<C, R, E, F>(
    conn: &mut C,
    setting: TimeoutSetting,
    timeout: Option<Duration>,
    f: F,
) -> Result<R, E>
where
    C: AsyncConnection<Backend = Pg>,
    F: AsyncClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let mut driver = AsyncDriver(conn);
    let previous = set(&mut driver, setting, timeout).await?;
    let mut session = EndSessionOnDrop::armed_if(!previous.is_local(), &mut driver);
    let ended = end(f(&mut *session.driver().0)).await;
    session.disarm();
    let restored = restore(&mut driver, previous).await;
    ended.and(restored)
}
