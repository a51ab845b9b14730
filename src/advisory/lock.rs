//! The builder of a session's advisory lock on sync connections.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::acquire;
use super::acquire::SessionLock;
use super::guard::AdvisoryGuard;
use super::hold::AdvisoryHold;
use super::monitor::LockMonitor;
use super::monitored_lock::MonitoredLock;
use super::statement::AdvisoryTarget;
use super::xact_lock::AdvisoryXactLock;
use crate::error::{Error, Result};
use crate::session::run_or_undo;
use crate::session::{SyncDriver, run_ready};
use crate::timeout::WaitOption;
use crate::timeout::advisory_lock_options;
use crate::timeout::lock_request;
use crate::types::AdvisoryKey;

/// An advisory lock to be taken; made by [`advisory`](crate::PgLockConnection::advisory).
///
/// The lock belongs to the session: it outlives transactions, committed or
/// rolled back, and it nests: taken twice, it has to be released twice. Without
/// [`shared`](Self::shared) it excludes every other session that asks for the key.
///
/// | call | default | [`timeout(d)`](Self::timeout) | [`nowait()`](Self::nowait) |
/// |---|---|---|---|
/// | [`acquire`](Self::acquire), [`run`](Self::run) | waits; the session's `lock_timeout` applies | waits up to `d`, then an error | an error at once |
/// | [`try_acquire`](Self::try_acquire), [`try_run`](Self::try_run) | `None` at once | waits up to `d`, then `None` | `None` at once |
///
/// See [Advisory Locks](https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
#[must_use = "the lock is taken by `acquire`, `run`, `try_acquire` or `try_run`"]
#[doc(alias = "pg_advisory_lock")]
pub struct AdvisoryLock<'c, C> {
    conn: &'c mut C,
    target: AdvisoryTarget,
    wait: WaitOption,
}

advisory_lock_options!(
    AdvisoryLock<'_, C>,
    "pg_try_advisory_lock",
    "pg_advisory_lock_shared"
);

impl<'c, C> AdvisoryLock<'c, C> {
    pub(crate) fn new(conn: &'c mut C, key: AdvisoryKey) -> Self {
        Self {
            conn,
            target: AdvisoryTarget::new(key),
            wait: WaitOption::default(),
        }
    }

    /// Takes the lock for the transaction rather than the session.
    ///
    /// It ends with the transaction and cannot be released before.
    #[doc(alias = "pg_advisory_xact_lock")]
    pub fn xact(mut self) -> AdvisoryXactLock<'c, C> {
        self.target.xact = true;
        AdvisoryXactLock::new(self.conn, self.target, self.wait)
    }

    /// Watches the lock while it is held, over a connection of its own.
    ///
    /// The closure of `run` and `try_run` then also gets a [`Held`](crate::Held), which reports
    /// when the lock is lost, and has a token that rises with every acquisition. The other
    /// options precede this one, as in `conn.advisory(key).nowait().monitored(&monitor)`.
    pub fn monitored<S>(self, monitor: &LockMonitor<S>) -> MonitoredLock<'c, C, S> {
        MonitoredLock {
            conn: self.conn,
            target: self.target,
            wait: self.wait,
            monitor: monitor.clone(),
        }
    }
}

impl<'c, C> AdvisoryLock<'c, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Takes the lock, and releases it when the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`] if another session held it until the wait was over;
    /// [`Error::InvalidTimeout`] before anything is sent;
    /// [`Error::Query`] for what else the server says, a deadlock for example.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel_pglock::prelude::*;
    ///
    /// let guard = conn.advisory("report").acquire()?;
    /// assert!(other.advisory("report").try_acquire()?.is_none());
    ///
    /// guard.release()?;
    /// assert!(other.advisory("report").try_acquire()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(self) -> Result<AdvisoryGuard<'c, C>> {
        let Self { conn, target, wait } = self;
        let hold = run_ready(acquire::acquire(&mut SyncDriver(conn), target, wait))?;
        Ok(AdvisoryGuard::new(conn, hold))
    }

    /// Acquires the lock if it is free; `None` if another session holds it.
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
    /// use diesel_pglock::prelude::*;
    ///
    /// let guard = conn.advisory("report").try_acquire()?;
    /// assert!(guard.is_some());
    /// assert!(other.advisory("report").try_acquire()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_acquire(self) -> Result<Option<AdvisoryGuard<'c, C>>> {
        let Self { conn, target, wait } = self;
        let hold = run_ready(acquire::try_acquire(&mut SyncDriver(conn), target, wait))?;
        Ok(hold.map(|hold| AdvisoryGuard::new(conn, hold)))
    }

    /// Runs `f` while the lock is held.
    ///
    /// The lock is released when `f` returns, fails or panics. Inside a transaction
    /// `f` gets a savepoint, so that an error in it does not keep the lock. A transaction that
    /// `f` opens and abandons, by a dropped future or a caught panic, is rolled back.
    ///
    /// If the compiler cannot infer the error of `f`, annotate the closure's return type, as in
    /// `Ok::<_, Error>(())`. On the handle of a pool, a function that takes the connection itself
    /// needs a closure: `|c| job(c)`.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), or whatever `f` returns: an error of `f` is
    /// never replaced by one of the release.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.advisory("report").run(|_conn| {
    ///     let refused = other.advisory("report").nowait().acquire().unwrap_err();
    ///     assert!(refused.is_not_acquired());
    ///     diesel::QueryResult::Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        let Self { conn, target, wait } = self;
        let hold = run_ready(lock_request::acquire(
            &mut SyncDriver(conn),
            &SessionLock(target),
            wait,
        ))?;
        run_held(conn, hold, f)
    }

    /// Runs `f` if the lock can be acquired; `None` if another session holds it.
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
    /// let ran = conn.advisory("report").try_run(|_conn| {
    ///     let skipped = other.advisory("report").try_run(|_| diesel::QueryResult::Ok("twice"))?;
    ///     assert_eq!(skipped, None);
    ///     diesel::QueryResult::Ok("once")
    /// })?;
    /// assert_eq!(ran, Some("once"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_run<R, E>(self, f: impl FnOnce(&mut C) -> Result<R, E>) -> Result<Option<R>, E>
    where
        E: From<Error>,
    {
        let Self { conn, target, wait } = self;
        let lock = SessionLock(target);
        match run_ready(lock_request::try_acquire(
            &mut SyncDriver(conn),
            &lock,
            wait,
        ))? {
            Some(hold) => run_held(conn, hold, f).map(Some),
            None => Ok(None),
        }
    }
}

pub(super) fn run_held<C, R, E>(
    conn: &mut C,
    hold: AdvisoryHold,
    f: impl FnOnce(&mut C) -> Result<R, E>,
) -> Result<R, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    E: From<Error>,
{
    let (result, hold) = run_or_undo(conn, hold, f, |conn, hold| {
        // The panic goes on; where the lock cannot be released, the session ends.
        let _ = run_ready(hold.leave(&mut SyncDriver(conn), false));
    });
    let left = run_ready(hold.leave(&mut SyncDriver(conn), result.is_ok()));
    result.and_then(|value| Ok(left.map(|()| value)?))
}
