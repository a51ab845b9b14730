//! The builder of a monitored lock on async connections.

use std::fmt;
use std::future::Future;
use std::pin::pin;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use futures_util::future::{Either, select};

use super::acquire::SessionLock;
use super::async_monitored_closure::AsyncMonitoredClosure;
use super::held::Held;
use super::hold::AdvisoryHold;
use super::lock_watch::{Holder, LockWatch};
use super::monitor::LockMonitor;
use super::statement::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::EndSessionOnDrop;
use crate::session::async_scope::end;
use crate::source::AsyncWatcherSource;
use crate::timeout::WaitOption;
use crate::timeout::lock_request;

/// An advisory lock that is watched while it is held on an async connection; made by
/// [`monitored`](crate::AsyncAdvisoryLock::monitored).
#[must_use = "the lock is taken by `run` or `try_run`"]
pub struct AsyncMonitoredLock<'c, C, S> {
    pub(super) conn: &'c mut C,
    pub(super) target: AdvisoryTarget,
    pub(super) wait: WaitOption,
    pub(super) monitor: LockMonitor<S>,
}

impl<'c, C, S> AsyncMonitoredLock<'c, C, S>
where
    C: AsyncConnection<Backend = Pg>,
    S: AsyncWatcherSource + 'c,
{
    /// Runs `f` while the lock is held and a monitor watches it.
    ///
    /// What holds for [`MonitoredLock::run`](crate::MonitoredLock::run) holds here. The monitor
    /// is polled in this future, beside `f`, and ends with `f` at once. An `f` that blocks its
    /// thread stops the monitor too; if it blocks for the interval and the
    /// [patience](LockMonitor::patience) together, the lock counts as lost.
    ///
    /// # Errors
    ///
    /// Those of [`MonitoredLock::run`](crate::MonitoredLock::run).
    ///
    /// # Cancel safety
    ///
    /// Wherever the future is dropped, the session is terminated, and the lock goes with it, as in
    /// [`AsyncAdvisoryLock::run`](crate::AsyncAdvisoryLock::run). The monitor ends, and its
    /// session is terminated if a poll was under way. Clones of the [`Held`] lock report it lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # let mut conn = AsyncPgConnection::establish(database_url()).await?;
    /// use diesel_pglock::{Error, LockMonitor, prelude::*};
    ///
    /// async fn lead() -> &'static str {
    ///     "done"
    /// }
    ///
    /// let monitor = LockMonitor::new(database_url());
    /// let lock = conn.advisory("leader").monitored(&monitor);
    /// let led = lock.run(async |_conn, held| {
    ///     tokio::select! {
    ///         led = lead() => Ok::<_, Error>(led),
    ///         () = held.lost() => Ok("lost"),
    ///     }
    /// }).await?;
    /// assert_eq!(led, "done");
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::manual_async_fn)] // an `async fn` could not promise to be `Send`
    pub fn run<R, E, F>(self, f: F) -> impl Future<Output = Result<R, E>> + Send + 'c
    where
        F: AsyncMonitoredClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        async move {
            let (mut driver, lock) = (AsyncDriver(self.conn), SessionLock(self.target));
            let (holder, session) =
                Box::pin(connect(&mut driver, self.target, &self.monitor)).await?;
            let hold = lock_request::acquire(&mut driver, &lock, self.wait).await?;
            run_monitored(driver, hold, holder, session, &self.monitor, f).await
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
    /// use diesel_pglock::{Error, LockMonitor, prelude::*};
    ///
    /// let monitor = LockMonitor::new(database_url());
    /// let ran = conn.advisory("leader").run(async |_conn| {
    ///     let lock = other.advisory("leader").monitored(&monitor);
    ///     lock.try_run(async |_, held| Ok::<_, Error>(held.token())).await
    /// }).await?;
    /// assert_eq!(ran, None);
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::manual_async_fn)] // as above
    pub fn try_run<R, E, F>(self, f: F) -> impl Future<Output = Result<Option<R>, E>> + Send + 'c
    where
        F: AsyncMonitoredClosure<C, R, E> + 'c,
        E: From<Error> + Send + 'c,
        R: Send + 'c,
    {
        async move {
            let (mut driver, lock) = (AsyncDriver(self.conn), SessionLock(self.target));
            let (holder, session) =
                Box::pin(connect(&mut driver, self.target, &self.monitor)).await?;
            match lock_request::try_acquire(&mut driver, &lock, self.wait).await? {
                Some(hold) => run_monitored(driver, hold, holder, session, &self.monitor, f)
                    .await
                    .map(Some),
                None => Ok(None),
            }
        }
    }
}

/// Opens the monitor's connection, for a session that is about to ask for the lock.
async fn connect<C, S>(
    driver: &mut AsyncDriver<'_, C>,
    target: AdvisoryTarget,
    monitor: &LockMonitor<S>,
) -> Result<(Holder, S::Connection)>
where
    C: AsyncConnection<Backend = Pg>,
    S: AsyncWatcherSource,
{
    let holder = Holder::identify(driver).await?;
    let mut session = monitor.source().connect().await?;
    let mut checked = AsyncDriver(&mut session);
    holder.check_monitor(&mut checked, target).await?;
    Ok((holder, session))
}

async fn run_monitored<C, S, R, E, F>(
    mut driver: AsyncDriver<'_, C>,
    hold: AdvisoryHold,
    holder: Holder,
    session: S::Connection,
    monitor: &LockMonitor<S>,
    f: F,
) -> Result<R, E>
where
    C: AsyncConnection<Backend = Pg>,
    S: AsyncWatcherSource,
    F: AsyncMonitoredClosure<C, R, E>,
    E: From<Error> + Send,
    R: Send,
{
    let watch = LockWatch::begin(&mut driver, hold, holder, monitor.settings()).await?;
    let held = EndOnDrop(watch.held().clone());
    let mut holding = EndSessionOnDrop::new(&mut driver);
    let running = end(f(&mut *holding.driver().0, &held.0));
    let polling = Box::pin(keep_polling(&watch, session, &**monitor.source()));
    let ended = beside(running, polling).await;
    drop(held);
    holding.disarm();
    let left = hold.leave(&mut driver, ended.succeeded()).await;
    ended.and(left)
}

/// Awaits `run` while `monitor` is polled too; drops what is left of `monitor`.
async fn beside<T>(run: impl Future<Output = T>, monitor: impl Future<Output = ()>) -> T {
    match select(pin!(run), pin!(monitor)).await {
        Either::Left((output, _)) => output,
        Either::Right(((), run)) => run.await,
    }
}

/// Marks the end of the run, even if its future is dropped.
struct EndOnDrop(Held);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn keep_polling<S: AsyncWatcherSource>(
    watch: &LockWatch,
    session: S::Connection,
    source: &S,
) {
    let mut session = Some(session);
    loop {
        poll(watch, &mut session, source).await;
        if watch.is_over() {
            return;
        }
        tokio::time::sleep(watch.interval()).await;
    }
}

/// Polls once, over a new connection if the last one failed.
async fn poll<S: AsyncWatcherSource>(
    watch: &LockWatch,
    session: &mut Option<S::Connection>,
    source: &S,
) {
    let polled = match session {
        Some(session) => watch.poll(&mut AsyncDriver(session)).await,
        None => match source.connect().await {
            Ok(new) => watch.poll(&mut AsyncDriver(session.insert(new))).await,
            Err(error) => Err(error),
        },
    };
    if polled.is_err() {
        *session = None;
    }
}

/// Connections and sources need not be `Debug`.
impl<C, S> fmt::Debug for AsyncMonitoredLock<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncMonitoredLock")
            .field("target", &self.target)
            .field("wait", &self.wait)
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}
