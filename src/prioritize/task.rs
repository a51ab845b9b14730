//! The watcher of an async run: a future that is polled beside the run's own.

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

/// Tells the watcher that the run is over.
#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    notify: Notify,
}

impl Stop {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    fn has_happened(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits for it; also when it has happened already.
    async fn happened(&self) {
        let mut notified = pin!(self.notify.notified());
        // Whoever is told from here on is told, so that nothing falls in between.
        notified.as_mut().enable();
        if !self.has_happened() {
            notified.await;
        }
    }
}

/// Awaits `run` while a watcher moves out of the way whoever blocks `us`.
///
/// The watcher has its connection, and has shown that it can see us, before `run`
/// is first polled. A look that is under way when `run` ends is awaited.
pub(crate) async fn watch_over<S: AsyncWatcherSource, T>(
    prioritizer: &Prioritizer<S>,
    us: PrioritizedSession,
    run: impl Future<Output = T> + Send,
) -> Result<Ended<T>> {
    let mut watch = Watch::new(us, prioritizer.settings().clone());
    let mut session = Some(connect(&mut watch, prioritizer.source()).await?);
    let stop = Stop::default();
    let running = async {
        let ended = end(run).await;
        stop.stop();
        ended
    };
    let watching = async {
        keep_looking(&mut watch, &mut session, prioritizer.source(), &stop).await;
        unmark(&watch, session).await;
    };
    let (ended, ()) = join(running, watching).await;
    prioritizer.set_report(watch.into_report());
    Ok(ended)
}

async fn keep_looking<S: AsyncWatcherSource>(
    watch: &mut Watch,
    session: &mut Option<Marked<S::Connection>>,
    source: &S,
    stop: &Stop,
) {
    loop {
        select(pin!(stop.happened()), pin!(sleep(watch.pause()))).await;
        if stop.has_happened() {
            return;
        }
        let looked = AssertUnwindSafe(look(watch, session, source, stop));
        if looked.catch_unwind().await.is_err() {
            // The policy is the caller's; it must not take the run with it.
            watch.fail(&Error::Watcher("its policy panicked".into()));
            return;
        }
    }
}

/// Looks once, over a new connection when the last one failed.
async fn look<S: AsyncWatcherSource>(
    watch: &mut Watch,
    session: &mut Option<Marked<S::Connection>>,
    source: &S,
    stop: &Stop,
) {
    let looked = match connected(watch, session, source, stop).await {
        Ok(Some(session)) => {
            let stopped = || stop.has_happened();
            watch.look(&mut session.driver(), &stopped).await
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = looked {
        *session = None;
        watch.fail(&error);
    }
}

/// The connection, a new one if need be; `None` when the run is over first: nobody
/// can be signalled without a connection, so it need not wait for one.
async fn connected<'s, S: AsyncWatcherSource>(
    watch: &mut Watch,
    session: &'s mut Option<Marked<S::Connection>>,
    source: &S,
    stop: &Stop,
) -> Result<Option<&'s mut Marked<S::Connection>>> {
    if session.is_none() {
        let connecting = pin!(connect(watch, source));
        match select(connecting, pin!(stop.happened())).await {
            Either::Left((new, _)) => *session = Some(new?),
            Either::Right(_) => {}
        }
    }
    Ok(session.as_mut())
}

async fn connect<S: AsyncWatcherSource>(
    watch: &mut Watch,
    source: &S,
) -> Result<Marked<S::Connection>> {
    let mut session = Marked::new(source.connect().await?);
    let checked = watch.check(&mut session.driver()).await;
    if checked.is_err() {
        session.is_marked = false;
    }
    checked.map(|()| session)
}

/// How long a session is waited for that does not answer.
const LIMIT: Duration = Duration::from_secs(1);

async fn unmark<C: AsyncConnection<Backend = Pg>>(watch: &Watch, session: Option<Marked<C>>) {
    let Some(mut session) = session else { return };
    let unmarked = timeout(LIMIT, watch.unmark(&mut session.driver())).await;
    session.is_marked = unmarked.is_err();
}

/// The session of a watcher that marks us. Dropped with the mark, it ends, so that a pool
/// does not hand it on.
struct Marked<C: AsyncConnection<Backend = Pg>> {
    session: C,
    is_marked: bool,
}

impl<C: AsyncConnection<Backend = Pg>> Marked<C> {
    /// The mark counts as set from before it is asked for: the request may be dropped.
    fn new(session: C) -> Self {
        Self {
            session,
            is_marked: true,
        }
    }

    fn driver(&mut self) -> AsyncDriver<'_, C> {
        AsyncDriver(&mut self.session)
    }
}

impl<C: AsyncConnection<Backend = Pg>> Drop for Marked<C> {
    fn drop(&mut self) {
        if self.is_marked {
            self.driver().terminate_without_waiting();
        }
    }
}
