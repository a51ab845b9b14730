//! The extension trait of sync connections.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::advisory::{AdvisoryLock, OwnedAdvisoryLock};
use crate::error::{Error, Result};
use crate::prioritize::Prioritizer;
use crate::prioritize::thread::run_with_watcher;
use crate::session::BackendPid;
use crate::session::Driver;
use crate::session::SessionIdentity;
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::table::TableLock;
use crate::timeout::TimeoutSetting;
use crate::timeout::scoped_timeout::run_with;
use crate::types::{AdvisoryKey, LockableTable, TableLockMode};

/// Adds locks to every sync Diesel connection to PostgreSQL: plain, pooled or wrapped.
pub trait PgLockConnection: Connection<Backend = Pg> + LoadConnection {
    /// Names an advisory lock to be taken; see [`AdvisoryLock`].
    #[doc(alias = "pg_advisory_lock")]
    fn advisory(&mut self, key: impl Into<AdvisoryKey>) -> AdvisoryLock<'_, Self> {
        AdvisoryLock::new(self, key.into())
    }

    /// As [`advisory`](Self::advisory), with the connection moved into the guard; see
    /// [`OwnedAdvisoryLock`].
    ///
    /// For a role that a process has for long, as `pool.get()?.advisory_owned("scheduler")`.
    #[doc(alias = "pg_advisory_lock")]
    fn advisory_owned(self, key: impl Into<AdvisoryKey>) -> OwnedAdvisoryLock<Self>
    where
        Self: Sized,
    {
        OwnedAdvisoryLock::new(self, key.into())
    }

    /// Names a table to be locked; see [`TableLock`].
    #[doc(alias = "LOCK TABLE")]
    fn lock_table<T: LockableTable>(&mut self, mode: TableLockMode) -> TableLock<'_, Self> {
        TableLock::new::<T>(self, mode)
    }

    /// Runs `f` under another `lock_timeout`: 1 ms to `i32::MAX` ms (24.8 days),
    /// rounded up to a millisecond; `None` for no limit.
    ///
    /// The timeout counts for each lock that a statement waits for. The value that
    /// was there before is restored afterwards, even if `f` fails or panics; scopes nest. In an aborted transaction it comes back with the
    /// rollback. A transaction that `f` opens and leaves open is rolled back.
    ///
    /// See [`lock_timeout`](https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTimeout`] before anything is sent; [`Error::SessionChanged`]
    /// behind a pooler in transaction mode, outside a transaction; whatever `f` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = connection();
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    ///
    /// conn.with_lock_timeout(Duration::from_secs(2), |conn| {
    ///     let timeout = diesel::dsl::sql::<diesel::sql_types::Text>("current_setting('lock_timeout')");
    ///     assert_eq!(diesel::select(timeout).get_result::<String>(conn)?, "2s");
    ///     diesel::QueryResult::Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "lock_timeout")]
    fn with_lock_timeout<R, E>(
        &mut self,
        timeout: impl Into<Option<Duration>>,
        f: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E>
    where
        E: From<Error>,
    {
        run_with(self, TimeoutSetting::Lock, timeout.into(), f)
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
    /// Those of [`with_lock_timeout`](Self::with_lock_timeout). A statement that takes too long
    /// fails with [`Error::Query`].
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = connection();
    /// use std::time::Duration;
    ///
    /// use diesel::connection::SimpleConnection;
    /// use diesel_pglock::prelude::*;
    ///
    /// let slow = conn.with_statement_timeout(Duration::from_millis(50), |conn| {
    ///     conn.batch_execute("SELECT pg_sleep(60)")
    /// });
    /// assert!(slow.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "statement_timeout")]
    fn with_statement_timeout<R, E>(
        &mut self,
        timeout: impl Into<Option<Duration>>,
        f: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E>
    where
        E: From<Error>,
    {
        run_with(self, TimeoutSetting::Statement, timeout.into(), f)
    }

    /// Runs `f` while a watcher signals the sessions that block this session.
    ///
    /// The watcher has its connection before `f` begins, and can signal no session once this
    /// returns, even if `f` fails or panics. [`Prioritizer::report`] contains what it did.
    ///
    /// This returns within a second of `f`. A watcher whose connection hangs is left behind, with
    /// its thread and its connection, until the connection fails. The report says so.
    ///
    /// # Errors
    ///
    /// [`Error::Watcher`], [`Error::OtherServer`] and [`Error::NoSignalLog`] before `f`
    /// is called; [`Error::InvalidTimeout`] for the prioritizer's `lock_timeout`;
    /// whatever `f` returns. A failure of the watcher on the way is in the report,
    /// and never in the place of what `f` returns.
    ///
    /// # Examples
    ///
    /// See [`Prioritizer`].
    #[doc(alias = "pg_blocking_pids")]
    fn prioritize<S, R, E>(
        &mut self,
        prioritizer: &Prioritizer<S>,
        f: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E>
    where
        S: WatcherSource,
        E: From<Error>,
    {
        let state = prioritizer.start_run();
        let session = run_ready(SessionIdentity::identify(&mut SyncDriver(self)))?;
        run_with_watcher(prioritizer, state, session, || {
            match prioritizer.settings().lock_timeout {
                Some(timeout) => self.with_lock_timeout(timeout, f),
                None => f(self),
            }
        })?
    }

    /// The process id of the session's backend, as the lock views show it.
    ///
    /// # Errors
    ///
    /// [`Error::Query`] when the server cannot be asked.
    #[doc(alias = "pg_backend_pid")]
    fn backend_pid(&mut self) -> Result<i32> {
        run_ready(SyncDriver(self).ask(BackendPid))
    }
}

impl<C: Connection<Backend = Pg> + LoadConnection> PgLockConnection for C {}
