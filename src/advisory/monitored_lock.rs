//! The builder of a monitored lock on sync connections.

use std::fmt;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::acquire::SessionLock;
use super::held::Held;
use super::hold::AdvisoryHold;
use super::lock::run_held;
use super::lock_watch::{Holder, LockWatch};
use super::monitor::LockMonitor;
use super::monitor_thread::MonitorThread;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::timeout::WaitOption;
use crate::timeout::lock_request;

/// An advisory lock that is watched while it is held; made by
/// [`monitored`](crate::AdvisoryLock::monitored).
#[must_use = "the lock is taken by `run` or `try_run`"]
pub struct MonitoredLock<'c, C, S> {
    pub(super) conn: &'c mut C,
    pub(super) target: AdvisoryTarget,
    pub(super) wait: WaitOption,
    pub(super) monitor: LockMonitor<S>,
}

impl<C, S> MonitoredLock<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection,
    S: WatcherSource,
{
    /// Runs `f` while the lock is held and a monitor watches it.
    ///
    /// `f` also gets the [`Held`] lock, which has the [fencing token](Held::token) and reports
    /// whether the lock [is lost](Held::is_lost). A lost lock does not interrupt `f`. All else
    /// is as in [`AdvisoryLock::run`](crate::AdvisoryLock::run): if the lock is gone at the end,
    /// a successful `f` becomes [`Error::NotHeld`], or the error of the session.
    ///
    /// The token costs a commit before `f` starts, which waits for the disk, and for a synchronous
    /// standby. A monitor that hangs delays the end of the run by no more than a second; its
    /// thread ends later, when its connection answers or fails.
    ///
    /// # Errors
    ///
    /// Those of [`AdvisoryLock::run`](crate::AdvisoryLock::run); and before the lock is asked
    /// for: [`Error::InTransaction`] inside a transaction, [`Error::InRecovery`] on a standby,
    /// with [`on_standby`](crate::AdvisoryLock::on_standby) too, [`Error::Watcher`] if the monitor
    /// has no connection, and [`Error::OtherServer`] if its connection leads to another server.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = connection();
    /// use diesel_pglock::{Error, LockMonitor, prelude::*};
    ///
    /// let monitor = LockMonitor::new(database_url());
    /// let lock = conn.advisory("leader").monitored(&monitor);
    /// let steps = lock.run(|_conn, held| {
    ///     let steps = (1..=3).take_while(|_| !held.is_lost());
    ///     Ok::<_, Error>(steps.count())
    /// })?;
    /// assert_eq!(steps, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<R, E>(self, f: impl FnOnce(&mut C, &Held) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        let (conn, lock) = (self.conn, SessionLock(self.target));
        let (holder, session) = connect(conn, self.target, &self.monitor)?;
        let mut driver = SyncDriver(&mut *conn);
        let acquired = lock_request::acquire(&mut driver, &lock, self.wait);
        let hold = run_ready(acquired)?;
        run_monitored(conn, hold, holder, session, &self.monitor, f)
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
    /// use diesel_pglock::{Error, LockMonitor, prelude::*};
    ///
    /// let monitor = LockMonitor::new(database_url());
    /// let guard = other.advisory("leader").acquire()?;
    /// let lock = conn.advisory("leader").monitored(&monitor);
    /// assert_eq!(lock.try_run(|_, held| Ok::<_, Error>(held.token()))?, None);
    ///
    /// guard.release()?;
    /// let lock = conn.advisory("leader").monitored(&monitor);
    /// assert!(lock.try_run(|_, held| Ok::<_, Error>(held.token()))?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_run<R, E>(
        self,
        f: impl FnOnce(&mut C, &Held) -> Result<R, E>,
    ) -> Result<Option<R>, E>
    where
        E: From<Error>,
    {
        let (conn, lock) = (self.conn, SessionLock(self.target));
        let (holder, session) = connect(conn, self.target, &self.monitor)?;
        let mut driver = SyncDriver(&mut *conn);
        let acquired = lock_request::try_acquire(&mut driver, &lock, self.wait);
        match run_ready(acquired)? {
            Some(hold) => run_monitored(conn, hold, holder, session, &self.monitor, f).map(Some),
            None => Ok(None),
        }
    }
}

/// Opens the monitor's connection, for a session that is about to ask for the lock.
fn connect<C, S>(
    conn: &mut C,
    target: AdvisoryTarget,
    monitor: &LockMonitor<S>,
) -> Result<(Holder, S::Connection)>
where
    C: Connection<Backend = Pg> + LoadConnection,
    S: WatcherSource,
{
    let holder = run_ready(Holder::identify(&mut SyncDriver(conn)))?;
    let mut session = monitor.source().connect()?;
    run_ready(holder.check_monitor(&mut SyncDriver(&mut session), target))?;
    Ok((holder, session))
}

fn run_monitored<C, S, R, E>(
    conn: &mut C,
    hold: AdvisoryHold,
    holder: Holder,
    session: S::Connection,
    monitor: &LockMonitor<S>,
    f: impl FnOnce(&mut C, &Held) -> Result<R, E>,
) -> Result<R, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    S: WatcherSource,
    E: From<Error>,
{
    let mut driver = SyncDriver(conn);
    let watch = LockWatch::begin(&mut driver, hold, holder, monitor.settings());
    let watch = run_ready(watch)?;
    run_held(conn, hold, |conn| {
        let held = watch.held().clone();
        let _monitor = MonitorThread::start(watch, session, S::connector(monitor.source()))?;
        f(conn, &held)
    })
}

/// Connections and sources need not be `Debug`.
impl<C, S> fmt::Debug for MonitoredLock<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitoredLock")
            .field("target", &self.target)
            .field("wait", &self.wait)
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}
