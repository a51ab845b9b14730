//! The monitor of a sync run: a thread, which outlives the run if its connection hangs.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::held::Held;
use super::lock_watch::LockWatch;
use crate::error::Result;
use crate::session::{BackgroundThread, SyncDriver, run_ready};
use crate::source::Connector;

/// The time that the end of a run waits for a poll that is under way.
const LIMIT: Duration = Duration::from_secs(1);

/// A thread that polls until this value is dropped.
pub(super) struct MonitorThread {
    held: Held,
    thread: BackgroundThread<()>,
}

impl MonitorThread {
    pub(super) fn start<C>(watch: LockWatch, session: C, connector: Connector<C>) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection + 'static,
    {
        let held = watch.held().clone();
        let thread = BackgroundThread::start("pglock monitor", move |stopping| {
            keep_polling(&watch, session, &connector, stopping);
        })?;
        Ok(Self { held, thread })
    }
}

impl Drop for MonitorThread {
    fn drop(&mut self) {
        self.held.end();
        self.thread.stop(LIMIT);
    }
}

fn keep_polling<C>(watch: &LockWatch, session: C, connector: &Connector<C>, stopping: &Receiver<()>)
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut session = Some(session);
    let stopped = || stopping.recv_timeout(watch.interval()) != Err(RecvTimeoutError::Timeout);
    loop {
        poll(watch, &mut session, connector);
        if watch.is_over() || stopped() {
            return;
        }
    }
}

/// Polls once, over a new connection if the last one failed.
fn poll<C>(watch: &LockWatch, session: &mut Option<C>, connector: &Connector<C>)
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let polled = match session {
        Some(session) => run_ready(watch.poll(&mut SyncDriver(session))),
        None => {
            connector().and_then(|new| run_ready(watch.poll(&mut SyncDriver(session.insert(new)))))
        }
    };
    if polled.is_err() {
        *session = None;
    }
}
