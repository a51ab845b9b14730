use std::future::Future;
use std::time::Duration;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use crate::async_driver::AsyncDriver;
use crate::async_scope::{AsyncFunc, end};
use crate::driver::{Driver, Unsettled};
use crate::lock_timeout;
use crate::statement::BackendPid;
use crate::{
    AdvisoryKey, AsyncAdvisoryLock, AsyncTableLock, Error, LockableTable, Result, TableLockMode,
};

/// Adds locks to every async Diesel connection to PostgreSQL: plain, or pooled
/// with bb8, deadpool or mobc.
///
/// The methods are those of [`PgLockConnection`](crate::PgLockConnection), awaited,
/// with async closures.
pub trait AsyncPgLockConnection: AsyncConnection<Backend = Pg> {
    /// Names an advisory lock to be taken; see [`AsyncAdvisoryLock`].
    #[doc(alias = "pg_advisory_lock")]
    fn advisory(&mut self, key: impl Into<AdvisoryKey>) -> AsyncAdvisoryLock<'_, Self> {
        AsyncAdvisoryLock::new(self, key.into())
    }

    /// Names a table to be locked; see [`AsyncTableLock`].
    #[doc(alias = "LOCK TABLE")]
    fn lock_table<T: LockableTable>(&mut self, mode: TableLockMode) -> AsyncTableLock<'_, Self> {
        AsyncTableLock::new::<T>(self, mode)
    }

    /// Runs `f` under another `lock_timeout`: 1 ms to `i32::MAX` ms (24.8 days),
    /// rounded up to a millisecond; `None` for no limit.
    ///
    /// What it means, and what comes back when, is said at
    /// [`PgLockConnection::with_lock_timeout`](crate::PgLockConnection::with_lock_timeout).
    ///
    /// # Errors
    ///
    /// Those of the sync method.
    ///
    /// # Cancel safety
    ///
    /// Dropped outside a transaction, the connection is marked broken, so that a
    /// pool drops it. Inside a transaction the timeout stays until its end.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// use std::time::Duration;
    ///
    /// use diesel_async::RunQueryDsl;
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.with_lock_timeout(Duration::from_secs(2), async |conn| {
    ///     let timeout = diesel::dsl::sql::<diesel::sql_types::Text>("current_setting('lock_timeout')");
    ///     let timeout: String = diesel::select(timeout).get_result(conn).await?;
    ///     assert_eq!(timeout, "2s");
    ///     diesel::QueryResult::Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "lock_timeout")]
    fn with_lock_timeout<'a, 'c, R, E, F>(
        &'c mut self,
        timeout: impl Into<Option<Duration>>,
        f: F,
    ) -> impl Future<Output = Result<R, E>> + Send + 'c
    where
        for<'r> F: AsyncFnOnce(&'r mut Self) -> Result<R, E>
            + AsyncFunc<&'r mut Self, Result<R, E>, Fut: Send>
            + Send
            + 'a,
        E: From<Error> + Send + 'a,
        R: Send + 'a,
        'a: 'c,
    {
        let timeout = timeout.into();
        async move {
            let mut driver = AsyncDriver(self);
            let previous = lock_timeout::set(&mut driver, timeout).await?;
            let mut session = Unsettled::unless(previous.is_local(), &mut driver);
            let ended = end(f(&mut *session.driver().0)).await;
            session.settle();
            let restored = match ended.panicked() {
                true => lock_timeout::abandon(&mut driver, previous).await,
                false => lock_timeout::restore(&mut driver, previous).await,
            };
            ended.and(restored)
        }
    }

    /// The process id of the session's backend, as the lock views show it.
    ///
    /// # Errors
    ///
    /// [`Error::Query`] when the server cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    #[doc(alias = "pg_backend_pid")]
    fn backend_pid(&mut self) -> impl Future<Output = Result<i32>> + Send {
        async move { AsyncDriver(self).ask(BackendPid).await }
    }
}

impl<C: AsyncConnection<Backend = Pg>> AsyncPgLockConnection for C {}
