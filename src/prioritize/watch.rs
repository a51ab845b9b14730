//! What the watcher does at each look; written once for threads and tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::query_builder::Query;

use super::blockers::Presence;
use super::event::PrioritizerEvent;
use super::policy::Decision;
use super::prioritizer::{Settings, Victims};
use super::protection::Protection;
use super::report::PrioritizerReport;
use super::statement::{BlockingPids, CheckWatcher, HasSynchronousStandby, HeldBy, Processes};
use super::wait_chain::WaitChain;
use crate::error::{Error, Result};
use crate::session::PrioritizedSession;
use crate::session::{ColumnsOf, Driver};
use crate::signal::Block;
use crate::signal::Unmark;
use crate::signal::action as signal_plan;
use crate::signal::{Precondition, SendSignal};
use crate::signal::{Signal, SignalKind};
use crate::tables::pg_locks;
use crate::views::BlockedPgLock;
use crate::views::blocking_table as blocking;

/// A session to be moved.
pub(crate) struct Target {
    pub(crate) row: BlockedPgLock,
    /// The pairs of waiter and blocker that lead to it.
    path: Vec<(i32, i32)>,
    pub(crate) block: Block,
    pub(crate) protection: Option<Protection>,
}

/// Whether this role lacks the privilege to see what one of the sessions waits for.
fn hides_waits(rows: &[BlockedPgLock]) -> bool {
    let mut activities = rows.iter().filter_map(|row| row.blocking_activity.as_ref());
    activities.any(|it| it.backend_type.is_none())
}

fn protection(row: &BlockedPgLock, chain: &WaitChain, has_standby: bool) -> Option<Protection> {
    if chain.is_marked(row.blocking_pid) {
        return Some(Protection::Prioritized);
    }
    let activity = row.blocking_activity.as_ref();
    activity.and_then(|activity| Protection::of(activity, has_standby))
}

/// One run's watcher.
pub(crate) struct Watch {
    us: PrioritizedSession,
    settings: Settings,
    presence: Presence,
    /// The blockers are added at the end.
    report: PrioritizerReport,
    /// Since when we wait for somebody.
    waiting_since: Option<Instant>,
}

impl Watch {
    pub(crate) fn new(us: PrioritizedSession, settings: Settings) -> Self {
        Self {
            us,
            settings,
            presence: Presence::default(),
            report: PrioritizerReport::default(),
            waiting_since: None,
        }
    }

    /// Makes sure that the watcher looks at our server, and can record what it does; and marks
    /// us with its session, which must [`unmark`](Self::unmark) us, or end, before it is
    /// handed on.
    ///
    /// A session that fails here is not marked, or has ended.
    pub(crate) async fn check(&mut self, driver: &mut impl Driver) -> Result<()> {
        let (us, audit) = (self.us, self.settings.audit);
        let (sees_us, has_log, is_marked) = match driver.ask(CheckWatcher { us, audit }).await {
            Ok(row) => row,
            Err(error) => {
                // Cancelled late, it has the mark all the same.
                driver.end_session().await;
                return Err(error);
            }
        };
        if is_marked == Some(false) {
            let text = "another session keeps the mark of prioritized sessions from this one";
            self.fail(&Error::Watcher(text.into()));
        }
        match () {
            () if !sees_us => Err(Error::OtherServer(us.pid)),
            () if audit && !has_log => Err(Error::NoSignalLog),
            () => Ok(()),
        }
    }

    /// Takes the mark back at the end of the run; a session that cannot do so is ended.
    pub(crate) async fn unmark(&self, driver: &mut impl Driver) {
        if driver.ask(Unmark(self.us.pid)).await.is_err() {
            driver.end_session().await;
        }
    }

    /// Looks once. `stopped` is asked before each signal: none is sent once the run is over.
    pub(crate) async fn look(
        &mut self,
        driver: &mut impl Driver,
        stopped: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<()> {
        self.report.looks += 1;
        let blocking = driver.ask(BlockingPids(self.us.pid)).await?;
        self.note_waiting(!blocking.is_empty());
        let targets = match blocking.is_empty() {
            true => Vec::new(),
            false => self.in_the_way(driver).await?,
        };
        for newcomer in self.presence.note(targets.iter()) {
            self.tell(PrioritizerEvent::Blocked(newcomer));
        }
        if self.settings.once && self.presence.victims() > 0 {
            return Ok(());
        }
        for target in targets {
            if stopped() {
                break;
            }
            self.act(driver, target).await?;
        }
        Ok(())
    }

    /// Finds the sessions to be moved.
    async fn in_the_way(&self, driver: &mut impl Driver) -> Result<Vec<Target>> {
        let processes = driver
            .load::<Processes, <Processes as Query>::SqlType, _>(Processes)
            .await?;
        let chain = WaitChain::walk(self.us.pid, processes);
        let targets = match self.settings.victims {
            Victims::Roots => chain.roots(),
            Victims::All => chain.direct(),
        };
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let blocked: Vec<_> = targets
            .iter()
            .filter_map(|&pid| chain.blocked_by(pid))
            .collect();
        let query = BlockedPgLock::query()
            .filter(pg_locks::pid.eq_any(chain.processes_of(&blocked)))
            .filter(blocking::pid.eq_any(targets))
            .order_by((blocking::pid, pg_locks::pid));
        let mut rows = driver
            .load::<_, ColumnsOf<BlockedPgLock>, BlockedPgLock>(query)
            .await?;
        rows.retain(|row| {
            let session = row.lock.pid.and_then(|pid| chain.session_of(pid));
            session.is_some() && session == chain.blocked_by(row.blocking_pid)
        });
        rows.dedup_by_key(|row| row.blocking_pid);
        let has_standby = hides_waits(&rows) && driver.ask(HasSynchronousStandby).await?;
        let target = |row: BlockedPgLock| Target {
            path: chain.path_to(row.blocking_pid),
            block: chain.block_by(row.blocking_pid),
            protection: protection(&row, &chain, has_standby),
            row,
        };
        Ok(rows.into_iter().map(target).collect())
    }

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

    /// Signals one session, if its time has come.
    async fn act(&mut self, driver: &mut impl Driver, target: Target) -> Result<()> {
        let Some(at) = self.due(&target.row) else {
            return Ok(());
        };
        let kind = match self.decide(at, &target.row) {
            Decision::Wait => return Ok(()),
            Decision::Cancel => SignalKind::Cancel,
            Decision::Terminate => SignalKind::Terminate,
        };
        let held = match self.settings.audit {
            true => self.held_by(driver, target.row.blocking_pid).await,
            false => Vec::new(),
        };
        let signal = signal_plan::send(driver, self.statement(kind, target), false).await?;
        let is_news = self.record(at, &signal);
        if is_news && self.settings.audit {
            self.log(driver, at, &signal, held).await;
        }
        Ok(())
    }

    /// Looks at us and the whole way to the session again, and signals it if that is still so.
    fn statement(&self, kind: SignalKind, target: Target) -> SendSignal {
        let (waiters, blockers) = target.path.into_iter().unzip();
        let activity = target.row.blocking_activity;
        SendSignal {
            kind,
            pid: target.row.blocking_pid,
            backend_start: activity.and_then(|activity| activity.backend_start),
            provided: Precondition::StillOnPath {
                us: self.us,
                waiters,
                blockers,
                block: target.block,
            },
        }
    }

    /// What is to be recorded must not keep the signal from being sent.
    async fn held_by(&mut self, driver: &mut impl Driver, pid: i32) -> Vec<String> {
        driver.ask(HeldBy(pid)).await.unwrap_or_else(|error| {
            self.fail(&error);
            Vec::new()
        })
    }

    /// Its place among those present, when it has been in the way for long enough,
    /// can be signalled at all, and there is room for one more.
    fn due(&self, row: &BlockedPgLock) -> Option<usize> {
        let at = self.presence.find(row)?;
        let blocker = self.presence.blocker(at);
        let most = self.settings.max_victims;
        let room = most.is_none_or(|most| self.presence.victims() < most);
        let due = blocker.pid.is_some()
            && !blocker.protected
            && self.presence.present(at).since.elapsed() >= self.settings.grace
            && (room || blocker.is_victim());
        due.then_some(at)
    }

    /// What the policy says, unless that was sent already.
    fn decide(&self, at: usize, row: &BlockedPgLock) -> Decision {
        let present = self.presence.present(at);
        let since_cancel = present.cancelled.map(|at| at.elapsed());
        let decision = self
            .settings
            .policy
            .decide(row, present.since.elapsed(), since_cancel);
        match decision {
            Decision::Cancel if present.cancelled.is_some() => Decision::Wait,
            _ if present.terminated => Decision::Wait,
            decision => decision,
        }
    }

    fn record(&mut self, at: usize, signal: &Signal) -> bool {
        let is_news = self.presence.record(at, signal.clone());
        if is_news {
            self.tell(PrioritizerEvent::Signalled {
                blocker: self.presence.now(at),
                signal: signal.clone(),
            });
        }
        is_news
    }

    /// A signal that cannot be recorded is reported; it has been sent.
    async fn log(
        &mut self,
        driver: &mut impl Driver,
        at: usize,
        signal: &Signal,
        held: Vec<String>,
    ) {
        let blocker = self.presence.now(at);
        let entry = super::signal_log::entry(&blocker, signal, held, self.us.pid);
        if let Err(error) = driver.execute(entry).await {
            self.fail(&Error::from(error));
        }
    }

    /// Keeps an error of the watcher for the report, once while it goes on.
    pub(crate) fn fail(&mut self, error: &Error) {
        let text = crate::fmt::with_sources(error);
        if self.report.errors.last() != Some(&text) {
            self.report.errors.push(text.clone());
        }
        self.tell(PrioritizerEvent::WatcherFailed(text));
    }

    /// A handler that panics is the caller's, and must not take the run with it.
    fn tell(&mut self, event: PrioritizerEvent) {
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

    /// How long until the next look: an interval, or less when a grace period ends sooner.
    pub(crate) fn pause(&self) -> Duration {
        let interval = self.settings.interval;
        let soonest = self.presence.soonest(self.settings.grace);
        soonest.map_or(interval, |soonest| soonest.min(interval))
    }

    pub(crate) fn into_report(mut self) -> PrioritizerReport {
        self.note_waiting(false);
        self.report.blockers = self.presence.into_blockers();
        self.report
    }
}
