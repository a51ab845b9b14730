//! The watcher of a sync run: a thread that stops before the run returns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
#[cfg(feature = "migrations")]
use std::sync::mpsc::{Sender, channel};
#[cfg(feature = "migrations")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::prioritizer::Prioritizer;
#[cfg(feature = "migrations")]
use super::report::PrioritizerReport;
use super::run_state::{RETURN_LIMIT, RunState};
use super::watch::Watch;
use crate::error::Result;
use crate::session::SessionIdentity;
use crate::session::{BackgroundThread, Driver, SyncDriver, run_ready};
use crate::source::{Connector, WatcherSource};
use crate::trace;

/// Runs `f` while a watcher signals the blockers of `session`.
///
/// The watcher has its connection, and has found the session, before `f` starts. It stops at
/// the end of `f`, even after a panic.
pub(crate) fn run_with_watcher<S: WatcherSource, R, E>(
    prioritizer: &Prioritizer<S>,
    state: Arc<RunState>,
    session: SessionIdentity,
    f: impl FnOnce() -> Result<R, E>,
) -> Result<Result<R, E>> {
    let watcher = WatcherThread::start(prioritizer, Arc::clone(&state), session)?;
    let result = f();
    state.publish(|report| report.succeeded = Some(result.is_ok()));
    drop(watcher);
    Ok(result)
}

/// The thread of a watcher, which stops when this value is dropped.
pub(crate) struct WatcherThread {
    state: Arc<RunState>,
    #[cfg(feature = "migrations")]
    next_part: NextPart,
    thread: BackgroundThread<Request>,
}

/// A part of the run with a report of its own.
#[cfg(feature = "migrations")]
struct Part {
    work: Option<String>,
    is_retry: bool,
}

/// The part that begins with the next poll; so a part without a poll does not wake the thread.
#[cfg(feature = "migrations")]
type NextPart = Arc<Mutex<Option<Part>>>;

/// A request to the thread between two polls.
enum Request {
    /// Publishes the report, and answers.
    #[cfg(feature = "migrations")]
    Publish(Sender<()>),
}

impl WatcherThread {
    pub(crate) fn start<S: WatcherSource>(
        prioritizer: &Prioritizer<S>,
        state: Arc<RunState>,
        session: SessionIdentity,
    ) -> Result<Self> {
        let settings = prioritizer.settings().clone();
        let mut watch = Watch::new(session, settings, Arc::clone(&state));
        let mut connection = prioritizer.source().connect()?;
        run_ready(watch.check(&mut SyncDriver(&mut connection)))?;
        #[cfg(feature = "migrations")]
        let next_part = NextPart::default();
        let watcher = Watcher {
            watch,
            #[cfg(feature = "migrations")]
            next_part: Arc::clone(&next_part),
            connection: Some(connection),
            connector: S::connector(prioritizer.source()),
        };
        let thread = BackgroundThread::start("pglock watcher", |requests| watcher.run(requests))?;
        Ok(Self {
            state,
            #[cfg(feature = "migrations")]
            next_part,
            thread,
        })
    }

    /// Begins a part of the run with a report of its own: the migration `work`, or none.
    ///
    /// In a further attempt at the same work, a blocker that goes on in the same transaction
    /// keeps its grace period and its signals.
    #[cfg(feature = "migrations")]
    pub(crate) fn begin_part(&self, work: Option<String>, is_retry: bool) {
        *lock(&self.next_part) = Some(Part { work, is_retry });
    }

    /// Returns the report of the part, once a poll under way has ended.
    #[cfg(feature = "migrations")]
    pub(crate) fn report(&self) -> PrioritizerReport {
        if lock(&self.next_part).take().is_some() {
            return PrioritizerReport::default(); // there was no poll
        }
        let (answer, answered) = channel();
        self.thread.request(Request::Publish(answer));
        // A poll that hangs leaves its last report.
        let _ = answered.recv_timeout(RETURN_LIMIT);
        self.state.report()
    }
}

#[cfg(feature = "migrations")]
fn lock(part: &NextPart) -> MutexGuard<'_, Option<Part>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for WatcherThread {
    fn drop(&mut self) {
        self.state.stop();
        if !self.thread.stop(RETURN_LIMIT) {
            trace::left_behind(&self.state.abandon());
        }
        self.state.close();
    }
}

/// The watcher and its connection, on its thread.
///
/// A session that did not leave in order is ended: it may hold the mark, and a pool would hand
/// it on.
struct Watcher<C: Connection<Backend = Pg> + LoadConnection> {
    watch: Watch,
    #[cfg(feature = "migrations")]
    next_part: NextPart,
    connection: Option<C>,
    connector: Connector<C>,
}

impl<C> Watcher<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn run(mut self, requests: &Receiver<Request>) {
        while self.serve(requests.recv_timeout(self.watch.pause())) {}
        if let Some(mut connection) = self.connection.take() {
            run_ready(self.watch.leave(&mut SyncDriver(&mut connection)));
        }
        self.watch.publish();
    }

    /// Serves a request, or polls if there was none; returns false at the end of the run.
    fn serve(&mut self, request: Result<Request, RecvTimeoutError>) -> bool {
        match request {
            #[cfg(feature = "migrations")]
            Ok(Request::Publish(answer)) => {
                self.watch.publish();
                let _ = answer.send(());
            }
            Err(RecvTimeoutError::Timeout) => self.poll_unless_over(),
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn poll_unless_over(&mut self) {
        #[cfg(feature = "migrations")]
        if let Some(part) = lock(&self.next_part).take() {
            self.watch.begin_part(part.work, part.is_retry);
        }
        if !self.watch.is_over && catch_unwind(AssertUnwindSafe(|| self.poll())).is_err() {
            self.watch.give_up();
        }
    }

    /// Polls once, on a new connection if the last one failed.
    fn poll(&mut self) {
        let polled = self.connect().and_then(|()| match &mut self.connection {
            Some(connection) => run_ready(self.watch.poll(&mut SyncDriver(connection))),
            None => Ok(()),
        });
        if polled.is_err() {
            self.end_session();
        }
        self.watch.note_result(polled);
    }

    fn connect(&mut self) -> Result<()> {
        if self.connection.is_none() {
            let connection = self.connection.insert((self.connector)()?);
            run_ready(self.watch.check(&mut SyncDriver(connection)))?;
        }
        Ok(())
    }

    fn end_session(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            run_ready(SyncDriver(&mut connection).end_session());
        }
    }
}

impl<C> Drop for Watcher<C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn drop(&mut self) {
        self.end_session();
    }
}
