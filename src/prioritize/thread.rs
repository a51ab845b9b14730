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

/// Runs `f` while a watcher moves out of the way whoever blocks `us`.
///
/// The watcher has its connection, and has shown that it can see us, before `f`
/// begins. The scope joins it whichever way `f` ends.
pub(crate) fn watch_over<S: WatcherSource, T>(
    prioritizer: &Prioritizer<S>,
    us: PrioritizedSession,
    f: impl FnOnce() -> T,
) -> Result<T> {
    let mut watch = Watch::new(us, prioritizer.settings().clone());
    let mut session = prioritizer.source().connect()?;
    run_ready(watch.check(&mut SyncDriver(&mut session)))?;
    let (stop, stopping) = channel();
    let stopped = &AtomicBool::new(false);
    Ok(thread::scope(|scope| {
        scope.spawn(trace::in_this_context(move || {
            let source = prioritizer.source();
            let report = run(watch, Some(session), source, &stopping, stopped);
            prioritizer.set_report(report);
        }));
        let _stop = Stop(stopped, Some(stop));
        f()
    }))
}

/// Tells the watcher to stop when the closure has ended, also by a panic.
struct Stop<'s>(&'s AtomicBool, Option<Sender<()>>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1 = None;
    }
}

fn run<S: WatcherSource>(
    mut watch: Watch,
    mut session: Option<S::Connection>,
    source: &S,
    stopping: &Receiver<()>,
    stopped: &AtomicBool,
) -> PrioritizerReport {
    while stopping.recv_timeout(watch.pause()) == Err(RecvTimeoutError::Timeout) {
        let looked = catch_unwind(AssertUnwindSafe(|| {
            look(&mut watch, &mut session, source, stopped)
        }));
        if looked.is_err() {
            // The policy is the caller's; it must not take the run with it.
            watch.fail(&Error::Watcher("its policy panicked".into()));
            break;
        }
    }
    if let Some(session) = &mut session {
        // A pool would hand it on with the mark.
        run_ready(watch.unmark(&mut SyncDriver(session)));
    }
    watch.into_report()
}

/// Looks once, over a new connection when the last one failed.
fn look<S: WatcherSource>(
    watch: &mut Watch,
    session: &mut Option<S::Connection>,
    source: &S,
    stopped: &AtomicBool,
) {
    let looked = reconnect(watch, session, source).and_then(|session| {
        let stopped = || stopped.load(Ordering::SeqCst);
        run_ready(watch.look(&mut SyncDriver(session), &stopped))
    });
    if let Err(error) = looked {
        end(session.take());
        watch.fail(&error);
    }
}

/// Ends a session that failed: it may hold the mark, and a pool would hand it on.
fn end<C>(session: Option<C>)
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    if let Some(mut session) = session {
        run_ready(SyncDriver(&mut session).end_session());
    }
}

fn reconnect<'s, S: WatcherSource>(
    watch: &mut Watch,
    session: &'s mut Option<S::Connection>,
    source: &S,
) -> Result<&'s mut S::Connection> {
    match session {
        Some(session) => Ok(session),
        None => {
            let session = session.insert(source.connect()?);
            run_ready(watch.check(&mut SyncDriver(session)))?;
            Ok(session)
        }
    }
}
