//! The builder of a session's advisory lock on async connections.

use std::future::Future;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::acquire::SessionLock;
use super::async_monitored_lock::AsyncMonitoredLock;
use super::async_xact_lock::AsyncAdvisoryXactLock;
use super::hold::AdvisoryHold;
use super::monitor::LockMonitor;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::EndSessionOnDrop;
use crate::session::async_scope::{AsyncClosure, end};
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::timeout::lock_request;
use crate::types::AdvisoryKey;

/// An advisory lock to be taken on an async connection; made by
/// [`advisory`](crate::AsyncPgLockConnection::advisory).
///
/// The options and what they mean are those of [`AdvisoryLock`](crate::AdvisoryLock).
/// [`run`](Self::run) and [`try_run`](Self::try_run) hold the lock while a closure runs. A guard
/// that borrows the connection does not exist here: its drop could not wait for the release. One that
/// owns the connection does: [`advisory_owned`](crate::AsyncPgLockConnection::advisory_owned).
#[must_use = "the lock is taken by `run` or `try_run`"]
#[doc(alias = "pg_advisory_lock")]
pub struct AsyncAdvisoryLock<'c, C> {
    conn: &'c mut C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    AsyncAdvisoryLock<'_, C>,
    "pg_try_advisory_lock",
    "pg_advisory_lock_shared"
);

impl<'c, C> AsyncAdvisoryLock<'c, C> {
    pub(crate) fn new(conn: &'c mut C, key: AdvisoryKey) -> Self {
        Self {
            conn,
            target: AdvisoryTarget::new(key),
            wait: WaitOption::default(),
        }
    }

    /// Takes the lock for the transaction rather than the session.
    #[doc(alias = "pg_advisory_xact_lock")]
    pub fn xact(mut self) -> AsyncAdvisoryXactLock<'c, C> {
        self.target.xact = true;
        AsyncAdvisoryXactLock::new(self.conn, self.target, self.wait)
    }

    /// Watches the lock while it is held, over a connection of its own.
    ///
    /// The closure of `run` and `try_run` then also gets a [`Held`](crate::Held), which reports
    /// when the lock is lost, and has a token that rises with every acquisition. The other
    /// options precede this one, as in `conn.advisory(key).nowait().monitored(&monitor)`.
    pub fn monitored<S>(self, monitor: &LockMonitor<S>) -> AsyncMonitoredLock<'c, C, S> {
        AsyncMonitoredLock {
            conn: self.conn,
            target: self.target,
            wait: self.wait,
            monitor: monitor.clone(),
        }
    }
}

impl<'c, C> AsyncAdvisoryLock<'c, C>
where
    C: AsyncConnection<Backend = Pg>,
{
    /// Runs `f` while the lock is held.
    ///
    /// The lock is released when `f` returns, fails or panics. Inside a transaction
    /// `f` gets a savepoint, so that an error in it does not keep the lock. A transaction that
    /// `f` opens and abandons, by a dropped future or a caught panic, is rolled back.
    ///
    /// Write `async |conn| { … }`, not `|conn| async move { … }`. If the compiler cannot infer the
    /// error of `f`, annotate the closure's return type, as in `Ok::<_, Error>(())`. On the handle of
    /// a pool, a function that takes the connection itself needs a closure:
    /// `async |c| job(c).await`.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryLock::run`](crate::AdvisoryLock::run).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped cannot wait for the release. Wherever it is dropped
    /// (waiting for the lock, in `f`, releasing), the session is terminated, and
    /// the lock goes with it; a pool replaces the connection. A wait on the server ends within
    /// about a second once the connection is closed; before PostgreSQL 14, through a pooler,
    /// and on a connection that is kept, it lasts until the lock is granted: give it a
    /// [`timeout`](Self::timeout) there. On a current-thread runtime the session ends only once
    /// the runtime runs again.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// # let mut other = AsyncPgConnection::establish(database_url()).await?;
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.advisory("report").run(async |_conn| {
    ///     let refused = other.advisory("report").try_run(async |_| diesel::QueryResult::Ok(())).await?;
    ///     assert_eq!(refused, None);
    ///     diesel::QueryResult::Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::manual_async_fn)] // an `async fn` could not promise to be `Send`
    pub fn run<R, E, F>(self, f: F) -> impl Future<Output = Result<R, E>> + Send + 'c
    where
        F: AsyncClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        async move {
            let mut driver = AsyncDriver(self.conn);
            let hold =
                lock_request::acquire(&mut driver, &SessionLock(self.target), self.wait).await?;
            run_held(driver, hold, f).await
        }
    }

    /// Runs `f` if the lock can be acquired; `None` if another session holds it.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), without [`Error::NotAcquired`].
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// # let mut other = AsyncPgConnection::establish(database_url()).await?;
    /// use diesel_pglock::prelude::*;
    ///
    /// let ran = conn.advisory("report").try_run(async |_conn| {
    ///     let again = other.advisory("report").try_run(async |_| diesel::QueryResult::Ok("twice"));
    ///     assert_eq!(again.await?, None);
    ///     diesel::QueryResult::Ok("once")
    /// }).await?;
    /// assert_eq!(ran, Some("once"));
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::manual_async_fn)] // as above
    pub fn try_run<R, E, F>(self, f: F) -> impl Future<Output = Result<Option<R>, E>> + Send + 'c
    where
        F: AsyncClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        async move {
            let mut driver = AsyncDriver(self.conn);
            match lock_request::try_acquire(&mut driver, &SessionLock(self.target), self.wait)
                .await?
            {
                Some(hold) => run_held(driver, hold, f).await.map(Some),
                None => Ok(None),
            }
        }
    }
}

async fn run_held<C, R, E, F>(
    mut driver: AsyncDriver<'_, C>,
    hold: AdvisoryHold,
    f: F,
) -> Result<R, E>
where
    C: AsyncConnection<Backend = Pg>,
    F: AsyncClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let mut session = EndSessionOnDrop::new(&mut driver);
    let ended = end(f(&mut *session.driver().0)).await;
    session.disarm();
    let left = hold.leave(&mut driver, ended.succeeded()).await;
    ended.and(left)
}
