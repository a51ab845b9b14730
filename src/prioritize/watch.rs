//! One watcher, without its connection: the core of the sync and the async one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;

use super::blockers::Blockers;
use super::event::PrioritizerEvent;
use super::report::PrioritizerReport;
use super::run_state::RunState;
use super::seen::Seen;
use super::server_clock::ServerClock;
use super::settings::Settings;
use super::signal_log::LogQueue;
use super::statement::{BlockingPids, CheckWatcher, LeaveSession, WatcherCheck, WatcherSettings};
use super::target::{Target, Waits};
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::SessionIdentity;

/// The watcher of one run.
pub(super) struct Watch {
    pub(super) session: SessionIdentity,
    pub(super) settings: Settings,
    pub(super) state: Arc<RunState>,
    pub(super) blockers: Blockers,
    /// The server's clock at the last poll, which the expiry of a signal is measured by.
    pub(super) clock: ServerClock,
    pub(super) log: LogQueue,
    /// The report, without the blockers.
    report: PrioritizerReport,
    /// The watcher's session, once it was checked.
    own: Option<OwnSession>,
    /// The waits that were read last.
    seen: Seen,
    /// The time since which the prioritized session waits.
    waiting_since: Option<Instant>,
    /// The number of failed polls in a row.
    failures: u32,
    /// True if code of the caller has panicked: the watcher polls no more.
    pub(super) is_over: bool,
}

/// The watcher's own session.
struct OwnSession {
    pid: i32,
    /// The settings to put back.
    previous: WatcherSettings,
}

/// The longest time between two tries of a watcher whose polls fail.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

impl Watch {
    pub(super) fn new(session: SessionIdentity, settings: Settings, state: Arc<RunState>) -> Self {
        Self {
            session,
            settings,
            state,
            blockers: Blockers::default(),
            clock: ServerClock::new(DateTime::UNIX_EPOCH),
            log: LogQueue::default(),
            report: PrioritizerReport::default(),
            own: None,
            seen: Seen::default(),
            waiting_since: None,
            failures: 0,
            is_over: false,
        }
    }

    /// Checks a new session of the watcher, sets it up, and marks the prioritized session with it.
    ///
    /// The session must [`leave`](Self::leave), or end, before a pool hands it on. A session
    /// that fails here is unchanged, or has ended.
    pub(super) async fn check(&mut self, driver: &mut impl Driver) -> Result<()> {
        let check = CheckWatcher::new(self.session, self.settings.audit);
        let check = match driver.ask(check).await {
            Ok(check) => check,
            Err(error) => {
                // A statement that was cancelled late may have set the mark.
                driver.end_session().await;
                return Err(error);
            }
        };
        self.refuse(&check)?;
        if check.is_marked == Some(false) {
            let text = "another session holds the key that marks the prioritized session";
            self.fail(&Error::Watcher(text.into()));
        }
        self.log.has_context = check.has_context;
        self.log.sender = check.previous.application_name.clone();
        self.own = Some(OwnSession {
            pid: check.pid,
            previous: check.previous,
        });
        Ok(())
    }

    /// Returns an error if the session cannot serve as a watcher's.
    fn refuse(&self, check: &WatcherCheck) -> Result<()> {
        if !check.sees_session {
            return Err(Error::OtherServer(self.session.pid));
        }
        if self.settings.audit && !check.has_log {
            return Err(Error::NoSignalLog);
        }
        if self.settings.audit && check.is_read_only {
            let text = "its session is read-only, and cannot write to the signal log";
            return Err(Error::Watcher(text.into()));
        }
        Ok(())
    }

    /// Ends the work of the watcher's session: writes the rest of the signal log, and puts the
    /// session back into its former state. A session that cannot do so is ended.
    pub(super) async fn leave(&mut self, driver: &mut impl Driver) {
        self.log.retry_now();
        self.write_log(driver).await;
        let Some(own) = self.own.take() else { return };
        let leave = LeaveSession {
            prioritized: self.session.pid,
            previous: own.previous,
        };
        if driver.ask(leave).await.is_err() {
            driver.end_session().await;
        }
    }

    /// Polls once.
    pub(super) async fn poll(&mut self, driver: &mut impl Driver) -> Result<()> {
        self.report.polls += 1;
        let is_blocked = self.look(driver).await?;
        self.note_waiting(is_blocked);
        let targets = if is_blocked {
            self.find_targets(driver).await?
        } else {
            self.seen = Seen::default();
            Vec::new()
        };
        for blocker in self.blockers.note(targets.iter()) {
            self.emit(PrioritizerEvent::Blocked(blocker));
        }
        // Each further statement may hang.
        self.publish();
        if !(self.settings.once && self.blockers.victim_count() > 0) {
            self.signal(driver, targets).await?;
        }
        self.write_log(driver).await;
        Ok(())
    }

    /// Finds the targets.
    ///
    /// While the waits go on as they were, a poll need not read the locks, which costs the more
    /// the more of them there are. They are read before a decision in any case: if the
    /// prioritized session is in the same wait then, it was so in between.
    async fn find_targets(&mut self, driver: &mut impl Driver) -> Result<Vec<Target>> {
        let is_due = self.blockers.await_decision(self.settings.grace);
        if !is_due && self.seen.goes_on(driver, self.session.pid).await? {
            return Ok(self.seen.targets.clone());
        }
        let began = Instant::now();
        let waits = Waits::read(driver, self.session.pid, self.settings.victims).await?;
        let (mut targets, error) = waits.targets(driver).await?;
        if let Some(error) = error {
            self.fail(&error);
        }
        for target in &mut targets {
            let activity = target.row.blocking_activity.as_ref();
            let chosen = activity.and_then(|activity| self.settings.protection(activity));
            target.protection = target.protection.or(chosen);
        }
        self.seen = Seen::new(&waits, &targets, began);
        Ok(targets)
    }

    /// Returns whether the prioritized session waits for a lock.
    async fn look(&mut self, driver: &mut impl Driver) -> Result<bool> {
        let look = driver.ask(BlockingPids(self.session.pid)).await?;
        self.clock = ServerClock::new(look.time);
        match &self.own {
            Some(own) if own.pid != look.pid => Err(Error::Watcher(
                "its statements reach different sessions; a pooler in transaction mode cannot serve as its source"
                    .into(),
            )),
            _ => Ok(!look.blockers.is_empty()),
        }
    }

    /// Signals the targets that are due. None is signalled once the run has ended.
    async fn signal(&mut self, driver: &mut impl Driver, targets: Vec<Target>) -> Result<()> {
        for target in targets {
            if self.state.has_stopped() {
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

    /// Notes the result of a poll, to which a failed connection belongs, and publishes the report.
    pub(super) fn note_result(&mut self, polled: Result<()>) {
        match polled {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                self.fail(&error);
            }
        }
        self.publish();
    }

    /// Notes that code of the caller has panicked, which must not end the run.
    pub(super) fn give_up(&mut self) {
        self.is_over = true;
        self.fail(&Error::Watcher("its policy or `spare` panicked".into()));
        self.publish();
    }

    /// Publishes the report so far.
    pub(super) fn publish(&mut self) {
        let (mut report, blockers) = (self.report.clone(), self.blockers.all().to_vec());
        report.blockers = blockers;
        report.unlogged = self.log.unlogged();
        report.waited += self
            .waiting_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.state.publish(|published| {
            report.succeeded = published.succeeded;
            *published = report;
        });
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
        if self.state.is_closed() {
            return;
        }
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

    /// Begins a part of the run with a report of its own.
    #[cfg(feature = "migrations")]
    pub(super) fn begin_part(&mut self, work: Option<String>, is_retry: bool) {
        self.log.work = work;
        self.report = PrioritizerReport::default();
        self.waiting_since = None;
        // The wait of the part before has ended, whichever sessions block this one.
        self.seen = Seen::default();
        self.blockers.begin_part(is_retry);
        self.publish();
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
