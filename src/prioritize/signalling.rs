//! The decision about one target, its signal, and the record of it.

use super::event::PrioritizerEvent;
use super::held_by::HeldBy;
use super::policy::Decision;
use super::signal_log;
use super::target::Target;
use super::watch::Watch;
use crate::error::{Error, Result};
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
        let Some(index) = self.blockers.find(&target.row) else {
            return Ok(());
        };
        let Some(kind) = self.decide(index, &target) else {
            return Ok(());
        };
        let held = self.held_by(driver, target.row.blocking_pid).await;
        let signal = send(driver, self.statement(kind, target), false).await?;
        if self.record(index, &signal) {
            self.log(driver, index, &signal, held).await;
        }
        Ok(())
    }

    /// Returns the signal to send now; `None` if it is not due, or was sent before.
    fn decide(&self, index: usize, target: &Target) -> Option<SignalKind> {
        if !self.is_due(index, target) {
            return None;
        }
        let current = self.blockers.current(index);
        let since_cancel = current.cancelled.map(|at| at.elapsed());
        let policy = &self.settings.policy;
        match policy.decide(&target.row, current.since.elapsed(), since_cancel) {
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
        let session = self.blockers.session(index);
        let blocked_for = self.blockers.current(index).since.elapsed();
        session.pid.is_some()
            && !session.protected
            && (target.is_in_cycle || blocked_for >= self.settings.grace)
            && (session.is_victim() || self.may_signal_another())
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
            }),
        }
    }

    /// Reads the locks of a session for the signal log. An error does not prevent the signal.
    async fn held_by(&mut self, driver: &mut impl Driver, pid: i32) -> Vec<String> {
        if !self.settings.audit {
            return Vec::new();
        }
        driver.ask(HeldBy(pid)).await.unwrap_or_else(|error| {
            self.fail(&error);
            Vec::new()
        })
    }

    /// Notes the outcome of a signal. Returns whether it is new.
    fn record(&mut self, index: usize, signal: &Signal) -> bool {
        let is_new = self.blockers.record(index, signal.clone());
        if is_new {
            self.emit(PrioritizerEvent::Signalled {
                blocker: self.blockers.with_current_block(index),
                signal: signal.clone(),
            });
        }
        is_new
    }

    /// Writes a signal to the signal log. An error is reported; the signal was sent.
    async fn log(
        &mut self,
        driver: &mut impl Driver,
        index: usize,
        signal: &Signal,
        held: Vec<String>,
    ) {
        if !self.settings.audit {
            return;
        }
        let blocker = self.blockers.with_current_block(index);
        let entry = signal_log::entry(&blocker, signal, held, self.session.pid);
        if let Err(error) = driver.execute(entry).await {
            self.fail(&Error::from(error));
        }
    }
}
