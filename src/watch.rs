//! What the watcher does at each look; written once for threads and tasks.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::query_builder::Query;

use crate::driver::{ColumnsOf, Driver};
use crate::policy::Decision;
use crate::prioritizer::{Settings, Victims};
use crate::schema::{blocking, pg_locks};
use crate::signal::{Provided, SendSignal};
use crate::signal_plan;
use crate::trace;
use crate::wait_chain::WaitChain;
use crate::watch_statement::{BlockingPids, CheckWatcher, HeldBy, Identify, Waiters};
use crate::{
    BlockedPgLock, Blocker, Error, PgActivity, PrioritizerEvent, PrioritizerReport, Result, Signal,
    SignalKind, SignalOutcome,
};

/// The session that is let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Us {
    pid: i32,
    backend_start: Option<DateTime<Utc>>,
}

impl Us {
    pub(crate) async fn identify(driver: &mut impl Driver) -> Result<Self> {
        let (pid, backend_start) = driver.ask(Identify).await?;
        Ok(Self { pid, backend_start })
    }
}

/// One run's watcher.
pub(crate) struct Watch {
    us: Us,
    settings: Settings,
    /// Who is in the way now, by its place in the report.
    present: Vec<Present>,
    report: PrioritizerReport,
    /// Since when we wait for somebody.
    waiting_since: Option<Instant>,
    /// How many sessions were signalled.
    victims: usize,
}

#[derive(Debug)]
struct Present {
    /// Its place in the report.
    index: usize,
    since: Instant,
    cancelled: Option<Instant>,
    terminated: bool,
    seen: bool,
}

impl Watch {
    pub(crate) fn new(us: Us, settings: Settings) -> Self {
        Self {
            us,
            settings,
            present: Vec::new(),
            report: PrioritizerReport::default(),
            waiting_since: None,
            victims: 0,
        }
    }

    /// Makes sure that the watcher looks at our server, and can record what it does.
    pub(crate) async fn check(&self, driver: &mut impl Driver) -> Result<()> {
        let Us { pid, backend_start } = self.us;
        let (sees_us, has_log) = driver.ask(CheckWatcher { pid, backend_start }).await?;
        match () {
            () if !sees_us => Err(Error::OtherServer(pid)),
            () if self.settings.audit && !has_log => Err(Error::NoSignalLog),
            () => Ok(()),
        }
    }

    /// Looks once. `stopped` is asked before each signal: none is sent once the run is over.
    pub(crate) async fn look(
        &mut self,
        driver: &mut impl Driver,
        stopped: &(dyn Fn() -> bool + Send + std::marker::Sync),
    ) -> Result<()> {
        self.report.looks += 1;
        let blocking = driver.ask(BlockingPids(self.us.pid)).await?;
        self.note_waiting(!blocking.is_empty());
        let rows = match blocking.is_empty() {
            true => Vec::new(),
            false => self.in_the_way(driver).await?,
        };
        self.note(rows.iter().map(|(row, _)| row));
        if self.settings.once && self.victims > 0 {
            return Ok(());
        }
        for (row, path) in rows {
            if stopped() {
                break;
            }
            self.act(driver, &row, path).await?;
        }
        Ok(())
    }

    /// A row for each session to be moved, and the way to it.
    async fn in_the_way(
        &self,
        driver: &mut impl Driver,
    ) -> Result<Vec<(BlockedPgLock, Vec<(i32, i32)>)>> {
        let waiters = driver
            .load::<Waiters, <Waiters as Query>::SqlType, _>(Waiters)
            .await?;
        let chain = WaitChain::walk(self.us.pid, waiters);
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
            .filter(pg_locks::pid.eq_any(blocked))
            .filter(blocking::pid.eq_any(targets));
        let mut rows = driver
            .load::<_, ColumnsOf<BlockedPgLock>, BlockedPgLock>(query)
            .await?;
        rows.retain(|row| {
            row.lock.pid.is_some() && row.lock.pid == chain.blocked_by(row.blocking_pid)
        });
        rows.dedup_by_key(|row| row.blocking_pid);
        let with_path = |row: BlockedPgLock| {
            let path = chain.path_to(row.blocking_pid);
            (row, path)
        };
        Ok(rows.into_iter().map(with_path).collect())
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

    /// Keeps book of who is in the way, what they do, and for how long.
    fn note<'r>(&mut self, rows: impl Iterator<Item = &'r BlockedPgLock>) {
        for present in &mut self.present {
            present.seen = false;
        }
        for row in rows {
            let now = self.now_present(row);
            now.seen = true;
        }
        let report = &mut self.report;
        self.present.retain(|present| {
            if present.seen {
                report.blockers[present.index].blocked_for = present.since.elapsed();
            }
            present.seen
        });
    }

    fn now_present(&mut self, row: &BlockedPgLock) -> &mut Present {
        let known = self
            .present
            .iter()
            .position(|present| is_same(&self.report.blockers[present.index], row));
        let at = known.unwrap_or_else(|| self.arrive(row));
        let present = &mut self.present[at];
        let known = &mut self.report.blockers[present.index];
        let (activity, signals) = (known.activity.take(), take(&mut known.signals));
        *known = blocker(row, activity, signals);
        present
    }

    fn arrive(&mut self, row: &BlockedPgLock) -> usize {
        let blocker = blocker(row, None, Vec::new());
        self.tell(PrioritizerEvent::Blocked(blocker.clone()));
        self.report.blockers.push(blocker);
        self.present.push(Present {
            index: self.report.blockers.len() - 1,
            since: Instant::now(),
            cancelled: None,
            terminated: false,
            seen: true,
        });
        self.present.len() - 1
    }

    /// Signals one session, if its time has come.
    async fn act(
        &mut self,
        driver: &mut impl Driver,
        row: &BlockedPgLock,
        path: Vec<(i32, i32)>,
    ) -> Result<()> {
        let Some(at) = self.due(row) else {
            return Ok(());
        };
        let kind = match self.decide(at, row) {
            Decision::Wait => return Ok(()),
            Decision::Cancel => SignalKind::Cancel,
            Decision::Terminate => SignalKind::Terminate,
        };
        let held = match self.settings.audit {
            true => driver.ask(HeldBy(row.blocking_pid)).await?,
            false => Vec::new(),
        };
        let signal = signal_plan::send(driver, statement(kind, row, path), false).await?;
        self.record(at, &signal);
        if self.settings.audit {
            self.log(driver, at, &signal, held).await;
        }
        Ok(())
    }

    /// Its place among those present, when it has been in the way for long enough,
    /// can be signalled at all, and there is room for one more.
    fn due(&self, row: &BlockedPgLock) -> Option<usize> {
        let is_row = |p: &Present| is_same(&self.report.blockers[p.index], row);
        let at = self.present.iter().position(is_row)?;
        let blocker = &self.report.blockers[self.present[at].index];
        let room = self
            .settings
            .max_victims
            .is_none_or(|most| self.victims < most);
        let due = blocker.pid.is_some()
            && !blocker.protected
            && self.present[at].since.elapsed() >= self.settings.grace
            && (room || blocker.is_victim());
        due.then_some(at)
    }

    /// What the policy says, unless that was sent already.
    fn decide(&self, at: usize, row: &BlockedPgLock) -> Decision {
        let present = &self.present[at];
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

    fn record(&mut self, at: usize, signal: &Signal) {
        let present = &mut self.present[at];
        match signal.kind {
            // It had stepped aside; should it come back, its time begins anew.
            _ if signal.outcome == SignalOutcome::Gone => {
                present.since = Instant::now();
                present.cancelled = None;
            }
            SignalKind::Cancel => present.cancelled = Some(Instant::now()),
            SignalKind::Terminate => present.terminated = true,
        }
        let blocker = &mut self.report.blockers[present.index];
        let was_victim = blocker.is_victim();
        blocker.signals.push(signal.clone());
        self.victims += usize::from(blocker.is_victim() && !was_victim);
        let event = PrioritizerEvent::Signalled {
            blocker: blocker.clone(),
            signal: signal.clone(),
        };
        self.tell(event);
    }

    /// A signal that cannot be recorded is reported; it has been sent.
    async fn log(
        &mut self,
        driver: &mut impl Driver,
        at: usize,
        signal: &Signal,
        held: Vec<String>,
    ) {
        let blocker = &self.report.blockers[self.present[at].index];
        let entry = crate::signal_log::entry(blocker, signal, held, self.us.pid);
        if let Err(error) = driver.execute(entry).await {
            self.fail(&Error::from(error));
        }
    }

    /// Keeps an error of the watcher for the report.
    pub(crate) fn fail(&mut self, error: &Error) {
        let text = crate::error_chain::with_sources(error);
        self.report.errors.push(text.clone());
        self.tell(PrioritizerEvent::WatcherFailed(text));
    }

    /// A handler that panics is the caller's, and must not take the run with it.
    fn tell(&mut self, event: PrioritizerEvent) {
        trace::prioritizer(&event);
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
        let left = |present: &Present| self.settings.grace.checked_sub(present.since.elapsed());
        let soonest = self.present.iter().filter_map(left).min();
        let interval = self.settings.interval;
        soonest.map_or(interval, |soonest| soonest.min(interval))
    }

    pub(crate) fn into_report(mut self) -> PrioritizerReport {
        self.note_waiting(false);
        self.report
    }
}

/// Looks at the whole way from us to the session again, and signals it if that is still so.
fn statement(kind: SignalKind, row: &BlockedPgLock, path: Vec<(i32, i32)>) -> SendSignal {
    let (waiters, blockers) = path.into_iter().unzip();
    SendSignal {
        kind,
        pid: row.blocking_pid,
        backend_start: row.blocking_activity.as_ref().and_then(|a| a.backend_start),
        provided: Provided::Leads { waiters, blockers },
    }
}

/// Sessions that nobody is better off without: a walsender feeds a replica, and an
/// autovacuum that prevents a wraparound would start over, with less time left.
fn is_protected(activity: &PgActivity) -> bool {
    let is = |kind| activity.backend_type.as_deref() == Some(kind);
    let query = activity.query.as_deref().unwrap_or_default();
    is("walsender") || is("autovacuum worker") && query.ends_with("(to prevent wraparound)")
}

/// A session in the way; of one that has ended since, `activity` is what was known.
fn blocker(row: &BlockedPgLock, activity: Option<PgActivity>, signals: Vec<Signal>) -> Blocker {
    let activity = row.blocking_activity.clone().or(activity);
    Blocker {
        pid: (row.blocking_pid != 0).then_some(row.blocking_pid),
        protected: activity.as_ref().is_some_and(is_protected),
        activity,
        lock: row.lock.clone(),
        blocked_for: Duration::ZERO,
        signals,
    }
}

/// A pid is given to another session once its own has ended; the start tells them apart.
/// Of one that has ended since it was found there is no activity.
fn is_same(blocker: &Blocker, row: &BlockedPgLock) -> bool {
    let start = |activity: Option<&PgActivity>| activity.and_then(|a| a.backend_start);
    let seen = row.blocking_activity.as_ref();
    blocker.pid.unwrap_or_default() == row.blocking_pid
        && (seen.is_none() || start(blocker.activity.as_ref()) == start(seen))
}
