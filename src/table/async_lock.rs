//! The builder of table locks on async connections.

use std::future::Future;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use super::lock::Tables;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::async_scope::AsyncClosure;
use crate::timeout::WaitOption;
use crate::timeout::lock_options;
use crate::timeout::lock_request;
use crate::timeout::{run_in_transaction, try_run_in_transaction};
use crate::types::{LockableTable, TableLockMode};

/// Tables to be locked on an async connection; made by
/// [`lock_table`](crate::AsyncPgLockConnection::lock_table).
///
/// The options and what they mean are those of [`TableLock`](crate::TableLock).
#[must_use = "the lock is taken by `acquire`, `run`, `try_acquire` or `try_run`"]
#[doc(alias = "LOCK TABLE")]
pub struct AsyncTableLock<'c, C> {
    conn: &'c mut C,
    tables: Tables,
    wait: WaitOption,
}

lock_options!(AsyncTableLock<'_, C>, tables, "NOWAIT");

impl<'c, C> AsyncTableLock<'c, C> {
    pub(crate) fn new<T: LockableTable>(conn: &'c mut C, mode: TableLockMode) -> Self {
        Self {
            conn,
            tables: Tables::new::<T>(mode),
            wait: WaitOption::default(),
        }
    }

    /// Locks one more table, in the same mode and under the same deadline.
    pub fn and<T: LockableTable>(mut self) -> Self {
        self.tables = self.tables.and::<T>();
        self
    }

    /// Leaves out the tables that inherit from those named: partitions, for example.
    #[doc(alias = "ONLY")]
    pub fn only(mut self) -> Self {
        self.tables = self.tables.only();
        self
    }
}

impl<'c, C> AsyncTableLock<'c, C>
where
    C: AsyncConnection<Backend = Pg>,
{
    /// Locks the tables until the transaction ends.
    ///
    /// # Errors
    ///
    /// Those of [`TableLock::acquire`](crate::TableLock::acquire).
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
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// conn.transaction(async |conn| -> diesel_pglock::Result<()> {
    ///     conn.lock_table::<users::table>(Exclusive).acquire().await?;
    ///     let refused = other.lock_table::<users::table>(RowExclusive);
    ///     assert_eq!(refused.try_run(async |_| diesel::QueryResult::Ok(())).await?, None);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(self) -> Result<()> {
        let target = self.tables.into_target()?;
        lock_request::acquire(&mut AsyncDriver(self.conn), &target, self.wait).await
    }

    /// Locks the tables if that is possible; `false` if other sessions hold conflicting locks.
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
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// conn.transaction(async |conn| -> diesel_pglock::Result<()> {
    ///     assert!(conn.lock_table::<users::table>(Share).try_acquire().await?);
    ///     let refused = other.lock_table::<users::table>(RowExclusive);
    ///     assert_eq!(refused.try_run(async |_| diesel::QueryResult::Ok(())).await?, None);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_acquire(self) -> Result<bool> {
        let target = self.tables.into_target()?;
        let mut driver = AsyncDriver(self.conn);
        let held = lock_request::try_acquire(&mut driver, &target, self.wait).await?;
        Ok(held.is_some())
    }

    /// Opens a transaction, locks the tables, and runs `f` in it.
    ///
    /// A transaction that `f` opens in it and abandons, by a dropped future or a caught panic,
    /// is rolled back.
    ///
    /// Write `async |conn| { … }`, not `|conn| async move { … }`. If the compiler cannot infer the
    /// error of `f`, annotate the closure's return type, as in `Ok::<_, Error>(())`. On the handle of
    /// a pool, a function that takes the connection itself needs a closure:
    /// `async |c| job(c).await`.
    ///
    /// # Errors
    ///
    /// Those of [`TableLock::run`](crate::TableLock::run).
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
    /// use diesel_async::RunQueryDsl;
    /// use diesel_pglock::{TableLockMode, prelude::*};
    ///
    /// let deleted = conn
    ///     .lock_table::<users::table>(TableLockMode::ShareRowExclusive)
    ///     .run(async |conn| diesel::delete(users::table).execute(conn).await)
    ///     .await?;
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
        let Self { conn, tables, wait } = self;
        async move { run_in_transaction(conn, tables.into_target()?, wait, f).await }
    }

    /// Opens a transaction and runs `f` in it if the tables can be locked; `None` otherwise.
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
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// let ran = conn.lock_table::<users::table>(Share).try_run(async |_conn| {
    ///     let refused = other.lock_table::<users::table>(RowExclusive);
    ///     refused.try_run(async |_| diesel::QueryResult::Ok(())).await
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
        let Self { conn, tables, wait } = self;
        async move { try_run_in_transaction(conn, tables.into_target()?, wait, f).await }
    }
}
