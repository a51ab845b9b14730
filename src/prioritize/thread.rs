//! The watcher of a sync run: a thread that ends before the run does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use super::prioritizer::Prioritizer;
use super::report::PrioritizerReport;
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::PrioritizedSession;
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::trace;
use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

/// Runs `f` while a watcher signals the blockers of `session`.
///
/// The watcher has its connection, and has found the session, before `f` starts. The thread
/// scope joins it at the end of `f`, even after a panic.
pub(crate) fn run_with_watcher<S: WatcherSource, T>(
    prioritizer: &Prioritizer<S>,
    session: PrioritizedSession,
    f: impl FnOnce() -> T,
) -> Result<T> {
    let mut watch = Watch::new(session, prioritizer.settings().clone());
    let mut connection = prioritizer.source().connect()?;
    run_ready(watch.check(&mut SyncDriver(&mut connection)))?;
    let (stop, stopping) = channel();
    let stopped = &AtomicBool::new(false);
    Ok(thread::scope(|scope| {
        scope.spawn(trace::in_this_context(move || {
            let source = prioritizer.source();
            let report = keep_polling(watch, Some(connection), source, &stopping, stopped);
            prioritizer.set_report(report);
        }));
        let _stop = Stop(stopped, Some(stop));
        f()
    }))
}

/// A value that stops the watcher when it is dropped, even by a panic of the closure.
struct Stop<'s>(&'s AtomicBool, Option<Sender<()>>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1 = None;
    }
}

fn keep_polling<S: WatcherSource>(
    mut watch: Watch,
    mut connection: Option<S::Connection>,
    source: &S,
    stopping: &Receiver<()>,
    stopped: &AtomicBool,
) -> PrioritizerReport {
    while stopping.recv_timeout(watch.pause()) == Err(RecvTimeoutError::Timeout) {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            poll(&mut watch, &mut connection, source, stopped)
        }));
        if polled.is_err() {
            // The policy is the caller's. Its panic must not end the run.
            watch.fail(&Error::Watcher("its policy panicked".into()));
            break;
        }
    }
    if let Some(connection) = &mut connection {
        // A pool would hand the session on with the mark.
        run_ready(watch.unmark(&mut SyncDriver(connection)));
    }
    watch.into_report()
}

/// Polls once, on a new connection if the last one failed.
fn poll<S: WatcherSource>(
    watch: &mut Watch,
    connection: &mut Option<S::Connection>,
    source: &S,
    stopped: &AtomicBool,
) {
    let polled = reconnect(watch, connection, source).and_then(|connection| {
        let stopped = || stopped.load(Ordering::SeqCst);
        run_ready(watch.poll(&mut SyncDriver(connection), &stopped))
    });
    if polled.is_err() {
        end(connection.take());
    }
    watch.note_result(polled);
}

/// Ends a session that failed: it may hold the mark, and a pool would hand it on.
fn end<C>(connection: Option<C>)
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    if let Some(mut connection) = connection {
        run_ready(SyncDriver(&mut connection).end_session());
    }
}

fn reconnect<'s, S: WatcherSource>(
    watch: &mut Watch,
    connection: &'s mut Option<S::Connection>,
    source: &S,
) -> Result<&'s mut S::Connection> {
    match connection {
        Some(connection) => Ok(connection),
        None => {
            let connection = connection.insert(source.connect()?);
            run_ready(watch.check(&mut SyncDriver(connection)))?;
            Ok(connection)
        }
    }
}
