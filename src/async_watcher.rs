//! The watcher of an async run: a future that is polled beside the run's own.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::{Either, join, select};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::async_driver::AsyncDriver;
use crate::async_scope::{Ended, end};
use crate::watch::{Us, Watch};
use crate::{AsyncWatcherSource, Error, Prioritizer, PrioritizerReport, Result};

/// Tells the watcher that the run is over.
#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    notify: Notify,
}

/// Awaits `run` while a watcher moves out of the way whoever blocks `us`.
///
/// The watcher has its connection, and has shown that it can see us, before `run`
/// is first polled. A look that is under way when `run` ends is awaited.
pub(crate) async fn watch_over<S: AsyncWatcherSource, T>(
    prioritizer: &Prioritizer<S>,
    us: Us,
    run: impl Future<Output = T> + Send,
) -> Result<Ended<T>> {
    prioritizer.set_report(PrioritizerReport::default());
    let mut watch = Watch::new(us, prioritizer.settings().clone());
    let mut session = prioritizer.source().connect().await?;
    watch.check(&mut AsyncDriver(&mut session)).await?;
    let stop = Stop::default();
    let running = async {
        let ended = end(run).await;
        stop.stopped.store(true, Ordering::SeqCst);
        stop.notify.notify_one();
        ended
    };
    let watching = keep_looking(&mut watch, Some(session), prioritizer.source(), &stop);
    let (ended, ()) = join(running, watching).await;
    prioritizer.set_report(watch.into_report());
    Ok(ended)
}

async fn keep_looking<S: AsyncWatcherSource>(
    watch: &mut Watch,
    mut session: Option<S::Connection>,
    source: &S,
    stop: &Stop,
) {
    loop {
        let (stopped, pause) = (pin!(stop.notify.notified()), pin!(sleep(watch.pause())));
        if let Either::Left(_) = select(stopped, pause).await {
            return;
        }
        let looked = AssertUnwindSafe(look(watch, &mut session, source, stop));
        if looked.catch_unwind().await.is_err() {
            // The policy or the event handler is the caller's; it must not take the run with it.
            watch.fail(&Error::Watcher(
                "its policy or event handler panicked".into(),
            ));
            return;
        }
    }
}

/// Looks once, over a new connection when the last one failed.
async fn look<S: AsyncWatcherSource>(
    watch: &mut Watch,
    session: &mut Option<S::Connection>,
    source: &S,
    stop: &Stop,
) {
    let looked = match reconnect(watch, session, source).await {
        Ok(session) => {
            let stopped = || stop.stopped.load(Ordering::SeqCst);
            watch.look(&mut AsyncDriver(session), &stopped).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = looked {
        *session = None;
        watch.fail(&error);
    }
}

async fn reconnect<'s, S: AsyncWatcherSource>(
    watch: &Watch,
    session: &'s mut Option<S::Connection>,
    source: &S,
) -> Result<&'s mut S::Connection> {
    if session.is_none() {
        let mut new = source.connect().await?;
        watch.check(&mut AsyncDriver(&mut new)).await?;
        *session = Some(new);
    }
    session
        .as_mut()
        .ok_or_else(|| Error::Watcher("no connection".into()))
}
