//! The decision about one target, its signal, and the record of it.

use super::event::PrioritizerEvent;
use super::evidence::HeldBy;
use super::policy::Decision;
use super::run_state::SIGNAL_LIFETIME;
use super::settings::Victims;
use super::signal_log::Evidence;
use super::target::Target;
use super::watch::Watch;
use crate::error::Result;
use crate::session::Driver;
use crate::signal::{Precondition, SendSignal, StillOnPath, send};
use crate::signal::{Signal, SignalKind};

impl Watch {
    /// Signals a target if it is due and the policy decides so.
    pub(super) async fn signal_if_due(
        &mut self,
        driver: &mut impl Driver,
        target: Target,
    ) -> Result<()> {
        let Some(index) = self.blockers.find(&target) else {
            return Ok(());
        };
        let Some(kind) = self.decide(index, &target) else {
            return Ok(());
        };
        let evidence = self.evidence(driver, &target).await;
        let Some(signal) = self.send(driver, kind, target).await? else {
            return Ok(());
        };
        if self.record(index, &signal) && self.settings.writes_log() {
            let blocker = self.blockers.with_current_block(index);
            self.log.add(&blocker, &signal, evidence, self.session.pid);
        }
        self.publish();
        Ok(())
    }

    /// Sends a signal that expires; `None` if the run has ended.
    async fn send(
        &mut self,
        driver: &mut impl Driver,
        kind: SignalKind,
        target: Target,
    ) -> Result<Option<Signal>> {
        let statement = self.statement(kind, target);
        // Asked after the expiry was set: the run waits that long for a signal before its end.
        if self.state.has_stopped() {
            return Ok(None);
        }
        self.state.set_unanswered(Some(statement.pid));
        let sent = send(driver, statement, false).await;
        self.state.set_unanswered(None);
        sent.map(Some)
    }

    /// Returns the signal to send now; `None` if it is not due, or was sent before.
    fn decide(&self, index: usize, target: &Target) -> Option<SignalKind> {
        if !self.is_due(index, target) {
            return None;
        }
        let current = self.blockers.current(index);
        let since_cancel = current.cancelled.map(|at| at.elapsed());
        let policy = &self.settings.policy;
        match policy.decide(&target.row, current.blocked_for(), since_cancel) {
            Decision::Cancel if !current.terminated && current.cancelled.is_none() => {
                Some(SignalKind::Cancel)
            }
            Decision::Terminate if !current.terminated => Some(SignalKind::Terminate),
            _ => None,
        }
    }

    /// Returns whether a session may be signalled, and has blocked for the grace period.
    ///
    /// There is no grace period in a cycle. The session cannot finish, and the server's
    /// `deadlock_timeout` would end one of the two, perhaps the prioritized session.
    fn is_due(&self, index: usize, target: &Target) -> bool {
        let current = self.blockers.current(index);
        current.session.pid.is_some()
            && !current.session.protected
            && (target.is_in_cycle || current.blocked_for() >= self.settings.grace)
            && (self.blockers.is_victim(&current.session) || self.may_signal_another())
    }

    fn may_signal_another(&self) -> bool {
        let limit = self.settings.max_victims;
        limit.is_none_or(|limit| self.blockers.victim_count() < limit)
    }

    /// Returns the statement that checks the whole path to the target again, and signals it.
    fn statement(&self, kind: SignalKind, target: Target) -> SendSignal {
        let activity = target.row.blocking_activity;
        SendSignal {
            kind,
            pid: target.row.blocking_pid,
            backend_start: activity.and_then(|activity| activity.backend_start),
            precondition: Precondition::StillOnPath(StillOnPath {
                session: self.session,
                wait_path: target.wait_path,
                block: target.block,
                must_be_root: self.settings.victims == Victims::Roots && !target.is_in_cycle,
                spares_pg_dump: self.settings.spares_pg_dump,
            }),
            expiry: Some(self.clock.after(SIGNAL_LIFETIME)),
            is_observed: self.settings.is_observed(),
        }
    }

    /// Reads what the signal log records. An error does not prevent the signal.
    async fn evidence(&mut self, driver: &mut impl Driver, target: &Target) -> Evidence {
        let statement = HeldBy {
            pid: target.row.blocking_pid,
            prioritized: self.session.pid,
        };
        let (held, blocked_query) = match self.settings.writes_log() {
            true => driver.ask(statement).await.unwrap_or_else(|error| {
                self.fail(&error);
                Default::default()
            }),
            false => Default::default(),
        };
        Evidence {
            held,
            blocked_query,
            wait_path: target.wait_path.sessions(),
        }
    }

    /// Notes the outcome of a signal. Returns whether it is new.
    fn record(&mut self, index: usize, signal: &Signal) -> bool {
        let is_new = self.blockers.record(index, signal);
        if is_new {
            self.emit(PrioritizerEvent::Signalled {
                blocker: self.blockers.with_current_block(index),
                signal: signal.clone(),
            });
        }
        is_new
    }

    /// Writes the pending entries of the signal log. An error is reported; the entries are kept.
    pub(super) async fn write_log(&mut self, driver: &mut impl Driver) {
        if let Err(error) = self.log.write(driver).await {
            self.fail(&error);
        }
    }
}
