//! One watcher, without its connection: the core of the sync and the async one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::blockers::Blockers;
use super::event::PrioritizerEvent;
use super::report::PrioritizerReport;
use super::settings::Settings;
use super::statement::{BlockingPids, CheckWatcher};
use super::target::find_targets;
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::PrioritizedSession;
use crate::signal::Unmark;

/// The watcher of one run.
pub(super) struct Watch {
    pub(super) session: PrioritizedSession,
    pub(super) settings: Settings,
    pub(super) blockers: Blockers,
    /// The report, to which the blockers are added at the end.
    report: PrioritizerReport,
    /// The time since which the prioritized session waits.
    waiting_since: Option<Instant>,
    /// The number of failed polls in a row.
    failures: u32,
}

/// The longest time between two tries of a watcher whose polls fail.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

impl Watch {
    pub(super) fn new(session: PrioritizedSession, settings: Settings) -> Self {
        Self {
            session,
            settings,
            blockers: Blockers::default(),
            report: PrioritizerReport::default(),
            waiting_since: None,
            failures: 0,
        }
    }

    /// Checks a new session of the watcher, and marks the prioritized session with it.
    ///
    /// The session must [`unmark`](Self::unmark), or end, before a pool hands it on. A session
    /// that fails here has no mark, or has ended.
    pub(super) async fn check(&mut self, driver: &mut impl Driver) -> Result<()> {
        let (session, audit) = (self.session, self.settings.audit);
        let check = match driver.ask(CheckWatcher { session, audit }).await {
            Ok(check) => check,
            Err(error) => {
                // A statement that was cancelled late may have set the mark.
                driver.end_session().await;
                return Err(error);
            }
        };
        if check.is_marked == Some(false) {
            let text = "another session holds the key that marks the prioritized session";
            self.fail(&Error::Watcher(text.into()));
        }
        if !check.sees_session {
            return Err(Error::OtherServer(session.pid));
        }
        if audit && !check.has_log {
            return Err(Error::NoSignalLog);
        }
        Ok(())
    }

    /// Removes the mark at the end of the run. A session that cannot do so is ended.
    pub(super) async fn unmark(&self, driver: &mut impl Driver) {
        if driver.ask(Unmark(self.session.pid)).await.is_err() {
            driver.end_session().await;
        }
    }

    /// Polls once. `stopped` is asked before each signal: none is sent after the run.
    pub(super) async fn poll(
        &mut self,
        driver: &mut impl Driver,
        stopped: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<()> {
        self.report.polls += 1;
        let pid = self.session.pid;
        let is_blocked = !driver.ask(BlockingPids(pid)).await?.is_empty();
        self.note_waiting(is_blocked);
        let targets = if is_blocked {
            find_targets(driver, pid, self.settings.victims).await?
        } else {
            Vec::new()
        };
        for blocker in self.blockers.note(targets.iter()) {
            self.emit(PrioritizerEvent::Blocked(blocker));
        }
        if self.settings.once && self.blockers.victim_count() > 0 {
            return Ok(());
        }
        for target in targets {
            if stopped() {
                break;
            }
            self.signal_if_due(driver, target).await?;
        }
        Ok(())
    }

    /// Adds up the time for which the prioritized session waits.
    fn note_waiting(&mut self, waits: bool) {
        match self.waiting_since {
            None if waits => self.waiting_since = Some(Instant::now()),
            Some(since) if !waits => {
                self.report.waited += since.elapsed();
                self.waiting_since = None;
            }
            _ => {}
        }
    }

    /// Notes the result of a poll, to which a failed connection belongs.
    pub(super) fn note_result(&mut self, polled: Result<()>) {
        match polled {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                self.fail(&error);
            }
        }
    }

    /// Adds an error of the watcher to the report, without repetitions in a row.
    pub(super) fn fail(&mut self, error: &Error) {
        let text = crate::fmt::with_sources(error);
        if self.report.errors.last() != Some(&text) {
            self.report.errors.push(text.clone());
        }
        self.emit(PrioritizerEvent::WatcherFailed(text));
    }

    /// Emits an event. A handler that panics does not end the run.
    pub(super) fn emit(&mut self, event: PrioritizerEvent) {
        event.trace();
        let Some(on_event) = self.settings.on_event.clone() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| on_event(&event))).is_err() {
            self.settings.on_event = None;
            let text = "its event handler panicked, and is not called any more";
            self.report.errors.push(text.to_owned());
        }
    }

    /// Returns the time until the next poll: an interval, or less if a grace period ends sooner.
    ///
    /// After failed polls it is longer, since a server that is down needs no load.
    pub(super) fn pause(&self) -> Duration {
        let interval = self.settings.interval;
        if self.failures > 0 {
            return backoff(interval, self.failures);
        }
        let grace_end = self.blockers.next_grace_end(self.settings.grace);
        grace_end.map_or(interval, |grace_end| grace_end.min(interval))
    }

    pub(super) fn into_report(mut self) -> PrioritizerReport {
        self.note_waiting(false);
        self.report.blockers = self.blockers.into_all();
        self.report
    }
}

/// Returns the time until the next try after a number of failed polls in a row.
fn backoff(interval: Duration, failures: u32) -> Duration {
    let doubled = interval.saturating_mul(2_u32.saturating_pow(failures));
    doubled.min(MAX_BACKOFF.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_polls_back_off_up_to_five_seconds_or_the_interval() {
        let backoff = |millis, failures| backoff(Duration::from_millis(millis), failures);
        assert_eq!(backoff(100, 1), Duration::from_millis(200));
        assert_eq!(backoff(100, 3), Duration::from_millis(800));
        assert_eq!(backoff(100, u32::MAX), MAX_BACKOFF);
        assert_eq!(backoff(60_000, 2), Duration::from_secs(60));
    }
}
