//! The monitor of a sync run: a thread, which outlives the run if its connection hangs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use super::held::Held;
use super::lock_watch::LockWatch;
use crate::error::{Error, Result};
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::trace;

/// The time that the end of a run waits for a poll that is under way.
const LIMIT: Duration = Duration::from_secs(1);

/// A thread that polls until this value is dropped.
///
/// It owns all that it uses, because a read that does not return keeps it alive.
pub(super) struct MonitorThread {
    held: Held,
    stop: Option<Sender<()>>,
    finished: Receiver<()>,
}

impl MonitorThread {
    pub(super) fn start<S>(watch: LockWatch, session: S::Connection, source: Arc<S>) -> Result<Self>
    where
        S: WatcherSource + 'static,
    {
        let held = watch.held().clone();
        let (stop, stopping) = channel();
        let (finish, finished) = channel();
        let thread = trace::in_this_context(move || {
            let _finish: Sender<()> = finish; // dropped last, after the connection
            keep_polling(&watch, session, &*source, &stopping);
        });
        let name = "pglock monitor".to_owned();
        let started = Builder::new().name(name).spawn(thread);
        started.map_err(|error| Error::Watcher(Box::new(error)))?;
        Ok(Self {
            held,
            stop: Some(stop),
            finished,
        })
    }
}

impl Drop for MonitorThread {
    fn drop(&mut self) {
        self.held.end();
        self.stop = None;
        // Nothing is ever sent; the channel closes with the thread.
        let _ = self.finished.recv_timeout(LIMIT);
    }
}

fn keep_polling<S: WatcherSource>(
    watch: &LockWatch,
    session: S::Connection,
    source: &S,
    stopping: &Receiver<()>,
) {
    let mut session = Some(session);
    let stopped = || stopping.recv_timeout(watch.interval()) != Err(RecvTimeoutError::Timeout);
    loop {
        poll(watch, &mut session, source);
        if watch.is_over() || stopped() {
            return;
        }
    }
}

/// Polls once, over a new connection if the last one failed.
fn poll<S: WatcherSource>(watch: &LockWatch, session: &mut Option<S::Connection>, source: &S) {
    let polled = match session {
        Some(session) => run_ready(watch.poll(&mut SyncDriver(session))),
        None => source
            .connect()
            .and_then(|new| run_ready(watch.poll(&mut SyncDriver(session.insert(new))))),
    };
    if polled.is_err() {
        *session = None;
    }
}
