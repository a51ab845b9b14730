//! The state that a run and its watcher share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::report::PrioritizerReport;

/// The time after the end of the code in which the run waits for its watcher.
///
/// A watcher without an answer for so long is left behind. It can send no signal any more: each
/// signal has expired by then.
pub(super) const RETURN_LIMIT: Duration = Duration::from_millis(900);

/// The time in which the server must execute a signal.
pub(super) const SIGNAL_LIFETIME: Duration = Duration::from_millis(500);

const _: () = assert!(SIGNAL_LIFETIME.as_millis() < RETURN_LIMIT.as_millis());

/// The state that a run and its watcher share.
///
/// The watcher publishes its report here, so that the report outlives a watcher that is left
/// behind, and a run that is dropped.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    has_stopped: AtomicBool,
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    report: PrioritizerReport,
    /// The session whose signal has no answer yet.
    unanswered: Option<i32>,
    /// True once the run has returned: nothing changes any more.
    is_closed: bool,
}

impl RunState {
    /// Notes that the code of the run has ended: no signal is sent from here on.
    pub(super) fn stop(&self) {
        self.has_stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::SeqCst)
    }

    pub(super) fn report(&self) -> PrioritizerReport {
        self.lock().report.clone()
    }

    /// Changes the report, unless the run has returned.
    pub(super) fn publish(&self, change: impl FnOnce(&mut PrioritizerReport)) {
        let mut published = self.lock();
        if !published.is_closed {
            change(&mut published.report);
        }
    }

    /// Notes the session that is signalled now; `None` once the answer has arrived.
    pub(super) fn set_unanswered(&self, pid: Option<i32>) {
        self.lock().unanswered = pid;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Closes the report at the return of the run.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Closes the report of a watcher that is left behind. Returns the reason.
    pub(super) fn abandon(&self) -> String {
        let mut published = self.lock();
        let reason = abandoned(published.unanswered);
        if !published.is_closed {
            published.is_closed = true;
            published.report.errors.push(reason.clone());
        }
        reason
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn abandoned(unanswered: Option<i32>) -> String {
    let limit = RETURN_LIMIT.as_millis();
    let left = format!("it had no answer {limit} ms after the end of the run, and was left behind");
    match unanswered {
        Some(pid) => format!("{left}; whether pid {pid} was signalled is unknown"),
        None => left,
    }
}
