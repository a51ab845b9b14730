//! The builder of a transaction's advisory lock on sync connections.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::acquire::XactLock;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::{SyncDriver, run_ready};
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::timeout::lock_request;

/// An advisory lock for the rest of the transaction; made by
/// [`AdvisoryLock::xact`](crate::AdvisoryLock::xact).
///
/// It cannot be released: it ends with the transaction, or with the savepoint
/// that it was taken in when that is rolled back to. A statement that fails ends
/// it at once: the server does not wait for the rollback. It works through a
/// pooler in transaction mode, where a session's lock does not.
///
/// In a `REPEATABLE READ` or `SERIALIZABLE` transaction the lock takes the snapshot before it
/// waits: changes that the holder commits meanwhile are not visible. Where that matters, acquire
/// the lock in `READ COMMITTED`, the default.
#[must_use = "the lock is taken by `acquire`, `run`, `try_acquire` or `try_run`"]
pub struct AdvisoryXactLock<'c, C> {
    conn: &'c mut C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    AdvisoryXactLock<'_, C>,
    "pg_try_advisory_xact_lock",
    "pg_advisory_xact_lock_shared"
);

impl<'c, C> AdvisoryXactLock<'c, C> {
    pub(crate) fn new(conn: &'c mut C, target: AdvisoryTarget, wait: WaitOption) -> Self {
        Self { conn, target, wait }
    }
}

impl<C> AdvisoryXactLock<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Takes the lock until the transaction ends.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTransaction`] outside a transaction, and those of
    /// [`AdvisoryLock::acquire`](crate::AdvisoryLock::acquire). After
    /// [`Error::NotAcquired`] the transaction is as usable as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.transaction(|conn| -> diesel_pglock::Result<()> {
    ///     conn.advisory("report").xact().acquire()?;
    ///     assert!(other.advisory("report").try_acquire()?.is_none());
    ///     Ok::<_, diesel_pglock::Error>(())
    /// })?;
    /// assert!(other.advisory("report").try_acquire()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(self) -> Result<()> {
        let Self { conn, target, wait } = self;
        run_ready(lock_request::acquire(
            &mut SyncDriver(conn),
            &XactLock(target),
            wait,
        ))
    }

    /// Acquires the lock if it is free; `false` if another session holds it.
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
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.transaction(|conn| -> diesel_pglock::Result<()> {
    ///     assert!(conn.advisory("report").xact().try_acquire()?);
    ///     let refused = other.advisory("report").xact().try_run(|_| diesel::QueryResult::Ok(()))?;
    ///     assert_eq!(refused, None);
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_acquire(self) -> Result<bool> {
        let Self { conn, target, wait } = self;
        let lock = XactLock(target);
        let held = run_ready(lock_request::try_acquire(
            &mut SyncDriver(conn),
            &lock,
            wait,
        ))?;
        Ok(held.is_some())
    }

    /// Opens a transaction, takes the lock, and runs `f` in it.
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
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    ///
    /// let deleted = conn.advisory("clean up").xact().run(|conn| {
    ///     assert!(other.advisory("clean up").try_acquire()?.is_none());
    ///     diesel::delete(users::table).execute(conn)
    /// })?;
    /// assert_eq!(deleted, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        let Self { conn, target, wait } = self;
        lock_request::run_in_transaction(conn, &XactLock(target), wait, f)
    }

    /// Opens a transaction and runs `f` in it if the lock can be acquired; `None` otherwise.
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
    /// use diesel_pglock::prelude::*;
    ///
    /// let ran = conn.advisory("clean up").xact().try_run(|_conn| {
    ///     other.advisory("clean up").xact().try_run(|_| diesel::QueryResult::Ok(()))
    /// })?;
    /// assert_eq!(ran, Some(None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<Option<R>, E>
    where
        E: From<Error>,
    {
        let Self { conn, target, wait } = self;
        lock_request::try_run_in_transaction(conn, &XactLock(target), wait, f)
    }
}
