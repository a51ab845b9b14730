//! The thread of an async harness.
//!
//! Diesel runs a migration on a sync connection, and a Rust migration may block, so both would
//! block a worker of the runtime. The sync harness therefore runs on a thread of its own. Its
//! connection sends each statement over the caller's async connection, and so does that of its
//! watcher over one of the async source. The future only waits for the thread.
//!
//! If the future is dropped, the session ends at once, whatever the thread does. The thread is not
//! joined: it ends with its next statement, each of which fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::Duration;

use diesel::migration::Result;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::harness::PrioritizedHarness;
use super::history::HistoryPlace;
use super::report::HarnessReport;
use super::settings::Settings;
use crate::error::Error;
use crate::prioritize::Prioritizer;
use crate::session::{
    AsyncDriver, BlockingConnection, CancelOnDrop, Driver, OwnedAsyncConnection, SharedConnection,
};
use crate::source::{AsyncWatcherSource, BlockingSource};
use crate::trace;
use crate::types::AdvisoryKey;

/// The sync harness on the thread of a run.
pub(crate) type ThreadHarness<'c, C, S> =
    PrioritizedHarness<'c, BlockingConnection<C>, BlockingSource<S>>;

/// The options of a run, and the state that outlives it.
pub(crate) struct ThreadRun<S> {
    pub(crate) prioritizer: Prioritizer<S>,
    pub(crate) settings: Settings,
    pub(crate) lock_key: Option<AdvisoryKey>,
    pub(crate) wait_limit: Option<Duration>,
    pub(crate) history: Option<HistoryPlace>,
    pub(crate) report: Arc<Mutex<HarnessReport>>,
}

/// The end of a run: its result, or a panic; and the history, once it was found.
struct RunEnd<T> {
    result: thread::Result<Result<T>>,
    history: Option<HistoryPlace>,
    /// False if the run has left transactions open.
    is_in_order: bool,
}

impl<S> ThreadRun<S>
where
    S: AsyncWatcherSource<Connection: 'static> + 'static,
{
    /// Runs `work` on a thread, over a connection that is given back when the run has ended.
    pub(crate) async fn run<C, T>(
        self,
        connection: &mut Option<C>,
        history: &mut Option<HistoryPlace>,
        work: impl FnOnce(&mut ThreadHarness<'_, C, S>) -> Result<T> + Send + 'static,
    ) -> Result<T>
    where
        C: OwnedAsyncConnection,
        T: Send + 'static,
    {
        let runtime = Handle::current();
        let mut conn = connection.take().ok_or_else(connection_lost)?;
        let depth = AsyncDriver(&mut conn).depth()?;
        let shared = SharedConnection::new(conn);
        let guard = CancelOnDrop::new(&shared, &runtime);
        let (send, end) = oneshot::channel();
        let thread = trace::in_this_context(move || {
            let end = self.run_on_thread(shared, &runtime, depth, work);
            let _ = send.send(end);
        });
        Builder::new()
            .name("pglock migrations".to_owned())
            .spawn(thread)?;
        let end = end.await.map_err(|_| connection_lost())?;
        *connection = guard.into_inner();
        *history = end.history;
        if let Some(conn) = connection.as_mut().filter(|_| !end.is_in_order) {
            AsyncDriver(conn).end_session().await;
        }
        end.result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn run_on_thread<C, T>(
        self,
        shared: Arc<SharedConnection<C>>,
        runtime: &Handle,
        depth: u32,
        work: impl FnOnce(&mut ThreadHarness<'_, C, S>) -> Result<T>,
    ) -> RunEnd<T>
    where
        C: OwnedAsyncConnection,
    {
        let source = BlockingSource {
            source: Arc::clone(self.prioritizer.source()),
            runtime: runtime.clone(),
        };
        let conn = BlockingConnection::new(shared, runtime.clone(), depth);
        let mut conn = match conn {
            Ok(conn) => conn,
            Err(error) => {
                return RunEnd {
                    result: Ok(Err(error.into())),
                    history: self.history,
                    is_in_order: true,
                };
            }
        };
        let mut harness = PrioritizedHarness {
            conn: &mut conn,
            prioritizer: self.prioritizer.with_source(source),
            settings: self.settings,
            lock_key: self.lock_key,
            wait_limit: self.wait_limit,
            report: lock(&self.report).clone(),
            history: self.history,
        };
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut harness)));
        *lock(&self.report) = harness.report;
        let history = harness.history;
        let is_in_order = crate::session::uncached(&mut conn).depth() == Ok(depth);
        RunEnd {
            result,
            history,
            is_in_order,
        }
    }
}

/// Returns the error of a harness whose connection went with an earlier run.
pub(crate) fn connection_lost() -> Error {
    let text = "the connection went with a run whose future was dropped";
    let text = Box::new(text.to_owned());
    let kind = diesel::result::DatabaseErrorKind::ClosedConnection;
    diesel::result::Error::DatabaseError(kind, text).into()
}

pub(crate) fn lock(report: &Mutex<HarnessReport>) -> std::sync::MutexGuard<'_, HarnessReport> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}
