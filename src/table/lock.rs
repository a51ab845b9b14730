//! The builder of table locks on sync connections.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::statement::TableTarget;
use crate::error::{Error, Result};
use crate::session::{SyncDriver, run_ready};
use crate::timeout::WaitOption;
use crate::timeout::lock_options;
use crate::timeout::lock_request;
use crate::types::{LockableTable, TableLockMode};

/// Tables to be locked; made by [`lock_table`](crate::PgLockConnection::lock_table).
///
/// A table lock ends with the transaction, or with the savepoint that it was
/// acquired in when that is rolled back to. A lock that cannot be acquired leaves the
/// transaction usable, and all of the tables unlocked.
///
/// In a `REPEATABLE READ` or `SERIALIZABLE` transaction the lock takes the snapshot before
/// it waits, as any query does and the bare `LOCK TABLE` does not: what the holder has
/// committed meanwhile is not seen. Where that matters lock in `READ COMMITTED`, the default.
///
/// | call | default | [`timeout(d)`](Self::timeout) | [`nowait()`](Self::nowait) |
/// |---|---|---|---|
/// | [`acquire`](Self::acquire), [`run`](Self::run) | waits; the session's `lock_timeout` applies | waits up to `d`, then an error | an error at once |
/// | [`try_acquire`](Self::try_acquire), [`try_run`](Self::try_run) | `false` or `None` at once | waits up to `d`, then `false` or `None` | `false` or `None` at once |
///
/// The timeout counts for all tables together, with their partitions and other descendants, and
/// with the tables that a view reads. Descendants are locked in the server's own order; the
/// privilege to lock the parent is enough.
///
/// See [LOCK](https://www.postgresql.org/docs/current/sql-lock.html).
#[must_use = "the lock is taken by `acquire`, `run`, `try_acquire` or `try_run`"]
#[doc(alias = "LOCK TABLE")]
pub struct TableLock<'c, C> {
    conn: &'c mut C,
    tables: Tables,
    wait: WaitOption,
}

/// The builder's part that sync and async share.
#[derive(Debug)]
pub(crate) struct Tables {
    target: TableTarget,
    /// The first name that could not be rendered; the call that locks returns the error.
    failed: Option<diesel::result::Error>,
}

impl Tables {
    pub(crate) fn new<T: LockableTable>(mode: TableLockMode) -> Self {
        let target = TableTarget {
            tables: Vec::new(),
            mode,
            only: false,
        };
        let tables = Self {
            target,
            failed: None,
        };
        tables.and::<T>()
    }

    pub(crate) fn and<T: LockableTable>(mut self) -> Self {
        match T::render() {
            Ok(table) => self.target.tables.push(table),
            Err(error) => self.failed = self.failed.or(Some(error)),
        }
        self
    }

    pub(crate) fn only(mut self) -> Self {
        self.target.only = true;
        self
    }

    pub(crate) fn into_target(self) -> Result<TableTarget> {
        match self.failed {
            None => Ok(self.target),
            Some(error) => Err(error.into()),
        }
    }
}

lock_options!(TableLock<'_, C>, tables, "NOWAIT");

impl<'c, C> TableLock<'c, C> {
    pub(crate) fn new<T: LockableTable>(conn: &'c mut C, mode: TableLockMode) -> Self {
        Self {
            conn,
            tables: Tables::new::<T>(mode),
            wait: WaitOption::default(),
        }
    }

    /// Locks one more table, in the same mode and under the same deadline.
    ///
    /// Tables are locked in the order they are named; two sessions that name them
    /// in a different order can deadlock.
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

impl<C> TableLock<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Locks the tables until the transaction ends.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTransaction`] outside a transaction; [`Error::NotAcquired`] if other
    /// sessions held conflicting locks until the wait was over, and then the
    /// transaction is as usable as before; [`Error::InvalidTimeout`] before anything
    /// is sent; [`Error::Query`] for what else the server says.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel::prelude::*;
    /// use diesel_pglock::{TableLockMode, prelude::*};
    ///
    /// conn.transaction(|conn| -> diesel_pglock::Result<()> {
    ///     conn.lock_table::<users::table>(TableLockMode::Exclusive).acquire()?;
    ///     let refused = other
    ///         .lock_table::<users::table>(TableLockMode::RowExclusive)
    ///         .try_run(|_| diesel::QueryResult::Ok(()))?;
    ///     assert_eq!(refused, None);
    ///     Ok::<_, diesel_pglock::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(self) -> Result<()> {
        let target = self.tables.into_target()?;
        run_ready(lock_request::acquire(
            &mut SyncDriver(self.conn),
            &target,
            self.wait,
        ))
    }

    /// Locks the tables if that is possible; `false` if other sessions hold conflicting locks.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), without [`Error::NotAcquired`].
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel::prelude::*;
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// conn.transaction(|conn| -> diesel_pglock::Result<()> {
    ///     conn.lock_table::<users::table>(Share).acquire()?;
    ///     other.transaction(|other| -> diesel_pglock::Result<()> {
    ///         assert!(!other.lock_table::<users::table>(RowExclusive).try_acquire()?);
    ///         assert!(other.lock_table::<users::table>(RowShare).try_acquire()?);
    ///         Ok(())
    ///     })
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_acquire(self) -> Result<bool> {
        let target = self.tables.into_target()?;
        let mut driver = SyncDriver(self.conn);
        let held = run_ready(lock_request::try_acquire(&mut driver, &target, self.wait))?;
        Ok(held.is_some())
    }

    /// Opens a transaction, locks the tables, and runs `f` in it.
    ///
    /// The transaction is committed when `f` succeeds, and rolled back when it
    /// fails or panics.
    ///
    /// A transaction that `f` opens in it and abandons, by a dropped future or a caught panic,
    /// is rolled back.
    ///
    /// If the compiler cannot infer the error of `f`, annotate the closure's return type, as in
    /// `Ok::<_, Error>(())`. On the handle of a pool, a function that takes the connection itself
    /// needs a closure: `|c| job(c)`.
    ///
    /// # Errors
    ///
    /// [`Error::InTransaction`] when a transaction is open: it would keep the lock
    /// after `run`. Those of [`acquire`](Self::acquire), and whatever `f` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// let lock = conn.lock_table::<users::table>(ShareRowExclusive);
    /// let inserted = lock.timeout(Duration::from_secs(5)).run(|conn| {
    ///     assert!(other.lock_table::<users::table>(Share).try_run(|_| diesel::QueryResult::Ok(()))?.is_none());
    ///     diesel::insert_into(users::table).values(users::name.eq("Ada")).execute(conn)
    /// })?;
    /// assert_eq!(inserted, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        let target = self.tables.into_target()?;
        lock_request::run_in_transaction(self.conn, &target, self.wait, f)
    }

    /// Opens a transaction and runs `f` in it if the tables can be locked; `None` otherwise.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), without [`Error::NotAcquired`].
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel_pglock::{TableLockMode::*, prelude::*};
    ///
    /// let ran = conn.lock_table::<users::table>(Share).try_run(|_conn| {
    ///     let lock = other.lock_table::<users::table>(RowExclusive);
    ///     lock.try_run(|_| diesel::QueryResult::Ok(()))
    /// })?;
    /// assert_eq!(ran, Some(None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<Option<R>, E>
    where
        E: From<Error>,
    {
        let target = self.tables.into_target()?;
        lock_request::try_run_in_transaction(self.conn, &target, self.wait, f)
    }
}
