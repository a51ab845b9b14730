//! The builder of a transaction's advisory lock on async connections.

use std::future::Future;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::acquire::XactLock;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::async_scope::AsyncClosure;
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::timeout::lock_request;
use crate::timeout::{run_in_transaction, try_run_in_transaction};

/// An advisory lock for the rest of the transaction, on an async connection; made by
/// [`AsyncAdvisoryLock::xact`](crate::AsyncAdvisoryLock::xact).
///
/// See [`AdvisoryXactLock`](crate::AdvisoryXactLock).
#[must_use = "the lock is taken by `acquire`, `run`, `try_acquire` or `try_run`"]
pub struct AsyncAdvisoryXactLock<'c, C> {
    conn: &'c mut C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    AsyncAdvisoryXactLock<'_, C>,
    "pg_try_advisory_xact_lock",
    "pg_advisory_xact_lock_shared"
);

impl<'c, C> AsyncAdvisoryXactLock<'c, C> {
    pub(crate) fn new(conn: &'c mut C, target: AdvisoryTarget, wait: WaitOption) -> Self {
        Self { conn, target, wait }
    }
}

impl<'c, C> AsyncAdvisoryXactLock<'c, C>
where
    C: AsyncConnection<Backend = Pg>,
{
    /// Takes the lock until the transaction ends.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryXactLock::acquire`](crate::AdvisoryXactLock::acquire).
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the statement goes on at the server, the next one
    /// waits behind it, and the lock may come yet; it ends with the transaction at
    /// the latest.
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
    /// conn.transaction(async |conn| -> diesel_pglock::Result<()> {
    ///     conn.advisory("report").xact().acquire().await?;
    ///     let refused = other.advisory("report").try_run(async |_| diesel::QueryResult::Ok(()));
    ///     assert_eq!(refused.await?, None);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(self) -> Result<()> {
        let lock = XactLock(self.target);
        lock_request::acquire(&mut AsyncDriver(self.conn), &lock, self.wait).await
    }

    /// Acquires the lock if it is free; `false` if another session holds it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), without [`Error::NotAcquired`].
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
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
    /// conn.transaction(async |conn| -> diesel_pglock::Result<()> {
    ///     assert!(conn.advisory("report").xact().try_acquire().await?);
    ///     let refused = other.advisory("report").xact().try_run(async |_| diesel::QueryResult::Ok(()));
    ///     assert_eq!(refused.await?, None);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_acquire(self) -> Result<bool> {
        let lock = XactLock(self.target);
        let mut driver = AsyncDriver(self.conn);
        let held = lock_request::try_acquire(&mut driver, &lock, self.wait).await?;
        Ok(held.is_some())
    }

    /// Opens a transaction, takes the lock, and runs `f` in it.
    ///
    /// A transaction that `f` opens in it and abandons, by a dropped future or a caught panic,
    /// is rolled back.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryXactLock::run`](crate::AdvisoryXactLock::run).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped early, the session is terminated, which rolls the
    /// transaction back; a pool replaces the connection. A session that waits for
    /// the lock notices only when the wait is over.
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
    /// use diesel_async::RunQueryDsl;
    /// use diesel_pglock::prelude::*;
    ///
    /// let deleted = conn.advisory("clean up").xact().run(async |conn| {
    ///     let refused = other.advisory("clean up").try_run(async |_| diesel::QueryResult::Ok(()));
    ///     assert_eq!(refused.await?, None);
    ///     diesel::delete(users::table).execute(conn).await
    /// }).await?;
    /// assert_eq!(deleted, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<R, E, F>(self, f: F) -> impl Future<Output = Result<R, E>> + Send + 'c
    where
        F: AsyncClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        let Self { conn, target, wait } = self;
        run_in_transaction(conn, XactLock(target), wait, f)
    }

    /// Opens a transaction and runs `f` in it if the lock can be acquired; `None` otherwise.
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
    /// let ran = conn.advisory("clean up").xact().try_run(async |_conn| {
    ///     let refused = other.advisory("clean up").xact().try_run(async |_| diesel::QueryResult::Ok(()));
    ///     refused.await
    /// }).await?;
    /// assert_eq!(ran, Some(None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_run<R, E, F>(self, f: F) -> impl Future<Output = Result<Option<R>, E>> + Send + 'c
    where
        F: AsyncClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        let Self { conn, target, wait } = self;
        try_run_in_transaction(conn, XactLock(target), wait, f)
    }
}
