//! The watcher of an async run: a future that runs beside the future of the run.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use futures_util::FutureExt;
use futures_util::future::{Either, join, select};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::prioritizer::Prioritizer;
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::Driver;
use crate::session::PrioritizedSession;
use crate::session::async_scope::{Ended, end};
use crate::source::AsyncWatcherSource;

/// The signal to the watcher that the run has ended.
#[derive(Default)]
struct Stop {
    is_stopped: AtomicBool,
    notify: Notify,
}

impl Stop {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    fn has_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Waits for the end of the run, which may be in the past.
    async fn stopped(&self) {
        let mut notified = pin!(self.notify.notified());
        // A notification from here on is received, so that none is lost before the wait.
        notified.as_mut().enable();
        if !self.has_stopped() {
            notified.await;
        }
    }
}

/// Awaits `run` while a watcher signals the blockers of `session`.
///
/// The watcher has its connection, and has found the session, before `run` starts. If `run`
/// ends during a poll of the watcher, that poll is awaited.
pub(crate) async fn run_with_watcher<S: AsyncWatcherSource, T>(
    prioritizer: &Prioritizer<S>,
    session: PrioritizedSession,
    run: impl Future<Output = T> + Send,
) -> Result<Ended<T>> {
    let mut watch = Watch::new(session, prioritizer.settings().clone());
    let mut marker = Some(connect(&mut watch, prioritizer.source()).await?);
    let stop = Stop::default();
    let running = async {
        let ended = end(run).await;
        stop.stop();
        ended
    };
    let watching = async {
        keep_polling(&mut watch, &mut marker, prioritizer.source(), &stop).await;
        unmark(&watch, marker).await;
    };
    let (ended, ()) = join(running, watching).await;
    prioritizer.set_report(watch.into_report());
    Ok(ended)
}

async fn keep_polling<S: AsyncWatcherSource>(
    watch: &mut Watch,
    marker: &mut Option<Marker<S::Connection>>,
    source: &S,
    stop: &Stop,
) {
    loop {
        select(pin!(stop.stopped()), pin!(sleep(watch.pause()))).await;
        if stop.has_stopped() {
            return;
        }
        let polled = AssertUnwindSafe(poll(watch, marker, source, stop));
        if polled.catch_unwind().await.is_err() {
            // The policy is the caller's. Its panic must not end the run.
            watch.fail(&Error::Watcher("its policy panicked".into()));
            return;
        }
    }
}

/// Polls once, on a new connection if the last one failed.
async fn poll<S: AsyncWatcherSource>(
    watch: &mut Watch,
    marker: &mut Option<Marker<S::Connection>>,
    source: &S,
    stop: &Stop,
) {
    let polled = match reconnect(watch, marker, source, stop).await {
        Ok(Some(marker)) => {
            let stopped = || stop.has_stopped();
            watch.poll(&mut marker.driver(), &stopped).await
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if polled.is_err() {
        *marker = None;
    }
    watch.note_result(polled);
}

/// Returns the session, a new one if necessary; `None` if the run ends first.
///
/// No signal can be sent without a connection, so the end of the run does not wait for one.
async fn reconnect<'s, S: AsyncWatcherSource>(
    watch: &mut Watch,
    marker: &'s mut Option<Marker<S::Connection>>,
    source: &S,
    stop: &Stop,
) -> Result<Option<&'s mut Marker<S::Connection>>> {
    if marker.is_none() {
        let connecting = pin!(connect(watch, source));
        match select(connecting, pin!(stop.stopped())).await {
            Either::Left((new, _)) => *marker = Some(new?),
            Either::Right(_) => {}
        }
    }
    Ok(marker.as_mut())
}

async fn connect<S: AsyncWatcherSource>(
    watch: &mut Watch,
    source: &S,
) -> Result<Marker<S::Connection>> {
    let mut marker = Marker::new(source.connect().await?);
    let checked = watch.check(&mut marker.driver()).await;
    if checked.is_err() {
        marker.is_marking = false;
    }
    checked.map(|()| marker)
}

/// The time after which a session that does not answer is ended.
const UNMARK_LIMIT: Duration = Duration::from_secs(1);

async fn unmark<C: AsyncConnection<Backend = Pg>>(watch: &Watch, marker: Option<Marker<C>>) {
    let Some(mut marker) = marker else { return };
    let unmarked = timeout(UNMARK_LIMIT, watch.unmark(&mut marker.driver())).await;
    marker.is_marking = unmarked.is_err();
}

/// The watcher's session that marks the prioritized session.
///
/// If it is dropped with the mark, it ends, so that a pool does not hand it on.
struct Marker<C: AsyncConnection<Backend = Pg>> {
    connection: C,
    is_marking: bool,
}

impl<C: AsyncConnection<Backend = Pg>> Marker<C> {
    /// Creates a session that counts as marking before it sends the request, since the
    /// request may be dropped.
    fn new(connection: C) -> Self {
        Self {
            connection,
            is_marking: true,
        }
    }

    fn driver(&mut self) -> AsyncDriver<'_, C> {
        AsyncDriver(&mut self.connection)
    }
}

impl<C: AsyncConnection<Backend = Pg>> Drop for Marker<C> {
    fn drop(&mut self) {
        if self.is_marking {
            self.driver().terminate_without_waiting();
        }
    }
}
