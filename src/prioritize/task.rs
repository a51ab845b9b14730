//! The watcher of an async run: a future that runs beside the future of the run.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use futures_util::FutureExt;
use futures_util::future::{Either, join, select};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::prioritizer::Prioritizer;
use super::run_state::{RETURN_LIMIT, RunState};
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::session::AsyncDriver;
use crate::session::Driver;
use crate::session::SessionIdentity;
use crate::session::async_scope::{Ended, end};
use crate::source::AsyncWatcherSource;
use crate::trace;

/// The signal to the watcher that the run has ended.
struct Stop {
    state: Arc<RunState>,
    notify: Notify,
}

impl Stop {
    fn stop(&self, succeeded: Option<bool>) {
        self.state.publish(|report| report.succeeded = succeeded);
        self.state.stop();
        self.notify.notify_waiters();
    }

    /// Waits for the end of the run, which may be in the past.
    async fn stopped(&self) {
        let mut notified = pin!(self.notify.notified());
        // A notification from here on is received, so that none is lost before the wait.
        notified.as_mut().enable();
        if !self.state.has_stopped() {
            notified.await;
        }
    }
}

/// Awaits `run` while a watcher signals the blockers of `session`.
///
/// The watcher has its connection, and has found the session, before `run` starts. A poll that
/// goes on at the end of `run` is awaited for a limited time.
pub(crate) async fn run_with_watcher<S: AsyncWatcherSource, R, E: From<Error>>(
    prioritizer: &Prioritizer<S>,
    state: Arc<RunState>,
    session: SessionIdentity,
    run: impl Future<Output = Result<R, E>> + Send,
) -> Result<Ended<Result<R, E>>> {
    let mut watch = Watch::new(session, prioritizer.settings().clone(), Arc::clone(&state));
    let marker = connect(&mut watch, prioritizer.source().as_ref()).await?;
    let stop = Stop {
        state: Arc::clone(&state),
        notify: Notify::new(),
    };
    let running = async {
        let ended = end(run).await;
        stop.stop(ended.is_ok());
        ended
    };
    let watching = async {
        let watching = pin!(keep_watching(
            watch,
            marker,
            prioritizer.source().as_ref(),
            &stop
        ));
        let limit = pin!(async {
            stop.stopped().await;
            sleep(RETURN_LIMIT).await;
        });
        if let Either::Right(_) = select(watching, limit).await {
            trace::left_behind(&state.abandon());
        }
    };
    let (ended, ()) = join(running, watching).await;
    state.close();
    Ok(ended)
}

/// Watches until the run ends, and then leaves the watcher's session as it was.
async fn keep_watching<S: AsyncWatcherSource>(
    mut watch: Watch,
    marker: Marker<S::Connection>,
    source: &S,
    stop: &Stop,
) {
    let mut marker = Some(marker);
    keep_polling(&mut watch, &mut marker, source, stop).await;
    if let Some(mut marker) = marker {
        watch.leave(&mut marker.driver()).await;
        marker.is_marking = false;
    }
    watch.publish();
}

async fn keep_polling<S: AsyncWatcherSource>(
    watch: &mut Watch,
    marker: &mut Option<Marker<S::Connection>>,
    source: &S,
    stop: &Stop,
) {
    loop {
        select(pin!(stop.stopped()), pin!(sleep(watch.pause()))).await;
        if stop.state.has_stopped() {
            return;
        }
        let polled = AssertUnwindSafe(poll(watch, marker, source, stop));
        if polled.catch_unwind().await.is_err() {
            watch.give_up();
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
        Ok(Some(marker)) => watch.poll(&mut marker.driver()).await,
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
