//! The extension trait of async connections.

// Declared `async fn`, callers with pooled connections in spawned tasks get the error
// "implementation is not general enough". Declared `impl Future`, code that is generic over
// the connection gets that error, unless the future is boxed.
#![allow(clippy::manual_async_fn)]

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use crate::advisory::{AsyncAdvisoryLock, AsyncOwnedAdvisoryLock};
use crate::error::{Error, Result};
use crate::prioritize::Prioritizer;
use crate::prioritize::task::run_with_watcher;
use crate::session::AsyncDriver;
use crate::session::BackendPid;
use crate::session::Driver;
use crate::session::SessionIdentity;
use crate::session::async_scope::AsyncClosure;
use crate::source::AsyncWatcherSource;
use crate::table::AsyncTableLock;
use crate::timeout::TimeoutSetting;
use crate::timeout::scoped_timeout::run_with_async;
use crate::types::{AdvisoryKey, LockableTable, TableLockMode};

/// Adds locks to every async Diesel connection to PostgreSQL: plain, or pooled
/// with bb8, deadpool or mobc.
///
/// The methods are those of [`PgLockConnection`](crate::PgLockConnection), awaited,
/// with async closures: `async |conn| { … }`, not `|conn| async move { … }`.
///
/// Code that is generic over the connection opens its transaction by
/// [`advisory(key).xact().run`](crate::AsyncAdvisoryXactLock::run) or
/// [`lock_table`](Self::lock_table)`.run`: a task that is spawned may await that. With diesel-async's
/// `transaction` in its place, the compiler refuses the task.
///
/// diesel-async's `AsyncConnectionWrapper` is a sync connection and an async one: where both
/// traits are in scope, as with the prelude, a call has to say whose method it means.
pub trait AsyncPgLockConnection: AsyncConnection<Backend = Pg> {
    /// Names an advisory lock to be taken; see [`AsyncAdvisoryLock`].
    #[doc(alias = "pg_advisory_lock")]
    fn advisory(&mut self, key: impl Into<AdvisoryKey>) -> AsyncAdvisoryLock<'_, Self> {
        AsyncAdvisoryLock::new(self, key.into())
    }

    /// As [`advisory`](Self::advisory), with the connection moved into the guard; see
    /// [`AsyncOwnedAdvisoryLock`].
    ///
    /// For a role that a process has for long, as `pool.get_owned().await?.advisory_owned("scheduler")`.
    #[doc(alias = "pg_advisory_lock")]
    fn advisory_owned(self, key: impl Into<AdvisoryKey>) -> AsyncOwnedAdvisoryLock<Self>
    where
        Self: Sized,
    {
        AsyncOwnedAdvisoryLock::new(self, key.into())
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
    /// If the future is dropped outside a transaction, the session is terminated; a pool replaces
    /// the connection. Inside a transaction the timeout stays until its end.
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
    fn with_lock_timeout<'c, R, E, F>(
        &'c mut self,
        timeout: impl Into<Option<Duration>>,
        f: F,
    ) -> Pin<Box<dyn Future<Output = Result<R, E>> + Send + 'c>>
    where
        F: AsyncClosure<Self, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        let (setting, timeout) = (TimeoutSetting::Lock, timeout.into());
        Box::pin(run_with_async(self, setting, timeout, f))
    }

    /// Runs `f` under another `statement_timeout`: 1 ms to `i32::MAX` ms (24.8 days),
    /// rounded up to a millisecond; `None` means no limit.
    ///
    /// The timeout counts for each statement. The value before is restored as
    /// [`with_lock_timeout`](Self::with_lock_timeout) restores it; the statement that restores it
    /// runs under the timeout too.
    ///
    /// See [`statement_timeout`](https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT).
    ///
    /// # Errors
    ///
    /// Those of the sync method. A statement that takes too long
    /// fails with [`Error::Query`].
    ///
    /// # Cancel safety
    ///
    /// That of [`with_lock_timeout`](Self::with_lock_timeout).
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
    /// use diesel_async::SimpleAsyncConnection;
    /// use diesel_pglock::prelude::*;
    ///
    /// let slow = conn.with_statement_timeout(Duration::from_millis(50), async |conn| {
    ///     conn.batch_execute("SELECT pg_sleep(60)").await
    /// });
    /// assert!(slow.await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "statement_timeout")]
    fn with_statement_timeout<'c, R, E, F>(
        &'c mut self,
        timeout: impl Into<Option<Duration>>,
        f: F,
    ) -> Pin<Box<dyn Future<Output = Result<R, E>> + Send + 'c>>
    where
        F: AsyncClosure<Self, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        let (setting, timeout) = (TimeoutSetting::Statement, timeout.into());
        Box::pin(run_with_async(self, setting, timeout, f))
    }

    /// Runs `f` while a watcher signals the sessions that block this session.
    ///
    /// Works as [`PgLockConnection::prioritize`](crate::PgLockConnection::prioritize). The
    /// watcher runs in the same task: an `f` that blocks its thread starves the watcher.
    ///
    /// # Errors
    ///
    /// Those of the sync method.
    ///
    /// # Cancel safety
    ///
    /// The watcher's session ends with the future; a pool replaces it. A signal that was sent
    /// already takes effect if its target still blocks half a second later at the latest. The
    /// report of the last poll stays. The connection is
    /// left as `f` leaves it, and as [`with_lock_timeout`](Self::with_lock_timeout) does if the
    /// prioritizer has a `lock_timeout`.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel::connection::SimpleConnection;
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// # let mut other = connection();
    /// use std::time::Duration;
    ///
    /// use diesel_async::SimpleAsyncConnection as _;
    /// use diesel_pglock::{Prioritizer, prelude::*};
    ///
    /// other.batch_execute("BEGIN; UPDATE users SET name = 'x'")?;
    ///
    /// let prioritizer = Prioritizer::new(database_url()).grace(Duration::from_millis(100));
    /// conn.prioritize(&prioritizer, async |conn| {
    ///     conn.batch_execute("ALTER TABLE users ADD COLUMN age int").await
    /// }).await?;
    /// assert_eq!(prioritizer.report().victims().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pg_blocking_pids")]
    fn prioritize<'c, S, R, E, F>(
        &'c mut self,
        prioritizer: &'c Prioritizer<S>,
        f: F,
    ) -> Pin<Box<dyn Future<Output = Result<R, E>> + Send + 'c>>
    where
        S: AsyncWatcherSource,
        F: AsyncClosure<Self, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        Box::pin(async move {
            let state = prioritizer.start_run();
            let session = SessionIdentity::identify(&mut AsyncDriver(self)).await?;
            let lock_timeout = prioritizer.settings().lock_timeout;
            let run = async move {
                match lock_timeout {
                    Some(timeout) => self.with_lock_timeout(timeout, f).await,
                    None => f(self).await,
                }
            };
            run_with_watcher(prioritizer, state, session, run)
                .await?
                .and(Ok(()))
        })
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
