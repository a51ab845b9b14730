//! The blockers of a run: their blocks, and the signals to them.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::current_block::CurrentBlock;
use super::report::Blocker;
use super::target::Target;
use crate::signal::{Signal, SignalOutcome};
use crate::views::PgActivity;

/// The record of the blockers of a run.
#[derive(Debug, Default)]
pub(super) struct Blockers {
    /// The blocks that the last poll has found.
    current: Vec<CurrentBlock>,
    /// The blocks that ended last.
    ended: Vec<CurrentBlock>,
    /// The last blocks of the attempt before this one.
    carried: Vec<CurrentBlock>,
    /// All blockers of this part of the run, in the order in which they were found.
    all: Vec<Blocker>,
    /// The sessions that were signalled in the run, by pid and start.
    victims: HashSet<(i32, Option<DateTime<Utc>>)>,
}

impl Blockers {
    /// Notes the blockers that a poll has found. Returns the new ones.
    pub(super) fn note<'r>(&mut self, targets: impl Iterator<Item = &'r Target>) -> Vec<Blocker> {
        for block in &mut self.current {
            block.is_found = false;
        }
        let known = self.all.len();
        for target in targets {
            self.note_target(target);
        }
        let (current, ended) = self.current.drain(..).partition(|block| block.is_found);
        self.current = current;
        self.note_ended(ended);
        self.all[known..].to_vec()
    }

    fn note_ended(&mut self, ended: Vec<CurrentBlock>) {
        if !ended.is_empty() {
            self.ended = ended;
        }
    }

    fn note_target(&mut self, target: &Target) {
        let session = self.note_session(target);
        let block = target.block.clone();
        let index = match self.find(target) {
            Some(index) => {
                self.current[index].update(session, block);
                index
            }
            None => self.add(CurrentBlock::new(session, block), target),
        };
        let current = &self.current[index];
        if let Some(known) = self.all.iter_mut().find(|it| is_same(it, target)) {
            keep_longest(known, current);
        }
    }

    /// Adds a block, and returns its index.
    fn add(&mut self, mut block: CurrentBlock, target: &Target) -> usize {
        let mut carried = self.carried.iter();
        let earlier = carried.position(|it| is_same(&it.session, target));
        if let Some(earlier) = earlier {
            block.carry_over(&self.carried.swap_remove(earlier));
        }
        self.current.push(block);
        self.current.len() - 1
    }

    /// Updates the entry of the session among all blockers. Returns it, with the present lock.
    fn note_session(&mut self, target: &Target) -> Blocker {
        let is_known = |it: &Blocker| is_same(it, target);
        let index = self.all.iter().rposition(is_known).unwrap_or_else(|| {
            self.all.push(new_blocker(target));
            self.all.len() - 1
        });
        update(&mut self.all[index], target);
        Blocker {
            lock: target.row.lock.clone(),
            ..self.all[index].clone()
        }
    }

    /// Returns the index of a session among the current blocks.
    pub(super) fn find(&self, target: &Target) -> Option<usize> {
        let is_target = |block: &CurrentBlock| is_same(&block.session, target);
        self.current.iter().rposition(is_target)
    }

    pub(super) fn current(&self, index: usize) -> &CurrentBlock {
        &self.current[index]
    }

    /// Returns the blocker with its present block, which may not be its longest one.
    pub(super) fn with_current_block(&self, index: usize) -> Blocker {
        let current = self.current(index);
        Blocker {
            blocked_for: current.blocked_for(),
            ..current.session.clone()
        }
    }

    /// Notes the outcome of a signal. Returns whether it is new.
    ///
    /// A session that stops blocking before each signal, or is spared, has the same outcome
    /// again and again, and a denied signal is denied in each block.
    pub(super) fn record(&mut self, index: usize, signal: &Signal) -> bool {
        let current = &mut self.current[index];
        current.record(signal);
        if is_sent(signal) {
            self.victims.insert(key(&current.session));
        }
        let key = key(&current.session);
        let Some(known) = self.all.iter_mut().rfind(|it| self::key(it) == key) else {
            return true;
        };
        // Each once: a session can block, and be signalled, any number of times.
        let is_known = known.signals.contains(signal);
        if !is_known {
            known.signals.push(signal.clone());
        }
        // The block has lasted since the poll found it.
        if is_sent(signal) {
            keep_longest(known, current);
        }
        current.session.signals.clone_from(&known.signals);
        is_sent(signal) || !is_known
    }

    /// Returns the number of sessions that were signalled in the run.
    pub(super) fn victim_count(&self) -> usize {
        self.victims.len()
    }

    /// Returns whether a session was signalled in the run.
    pub(super) fn is_victim(&self, session: &Blocker) -> bool {
        self.victims.contains(&key(session))
    }

    /// Returns whether a block has lasted for the grace period, and no signal was decided in it.
    pub(super) fn await_decision(&self, grace: Duration) -> bool {
        let is_due = |block: &CurrentBlock| block.awaits_decision(grace);
        self.current.iter().any(is_due)
    }

    /// Returns the time until the next grace period ends.
    pub(super) fn next_grace_end(&self, grace: Duration) -> Option<Duration> {
        let left = |block: &CurrentBlock| block.grace_left(grace);
        self.current.iter().filter_map(left).min()
    }

    pub(super) fn all(&self) -> &[Blocker] {
        &self.all
    }

    /// Begins a part of the run. In a further attempt at the same work, the last blocks of the
    /// attempt before may go on.
    #[cfg(feature = "migrations")]
    pub(super) fn begin_part(&mut self, is_retry: bool) {
        self.all.clear();
        let current = std::mem::take(&mut self.current);
        self.note_ended(current);
        self.carried = std::mem::take(&mut self.ended);
        if !is_retry {
            self.carried.clear();
        }
    }
}

/// Returns whether a signal was sent, or would have been.
fn is_sent(signal: &Signal) -> bool {
    matches!(
        signal.outcome,
        SignalOutcome::Sent | SignalOutcome::Observed
    )
}

fn key(session: &Blocker) -> (i32, Option<DateTime<Utc>>) {
    let activity = session.activity.as_ref();
    (
        session.pid.unwrap_or_default(),
        activity.and_then(|it| it.backend_start),
    )
}

/// Returns the entry of a session that is found for the first time.
fn new_blocker(target: &Target) -> Blocker {
    let row = &target.row;
    Blocker {
        pid: (row.blocking_pid != 0).then_some(row.blocking_pid),
        prepared: target.prepared.clone(),
        protected: false,
        protection: None,
        activity: row.blocking_activity.clone(),
        lock: row.lock.clone(),
        blocked_for: Duration::ZERO,
        signals: Vec::new(),
    }
}

/// Updates the entry of a session. If the session has ended, its last data stay.
fn update(blocker: &mut Blocker, target: &Target) {
    if target.row.blocking_activity.is_some() {
        blocker.activity.clone_from(&target.row.blocking_activity);
        blocker.protection = target.protection;
    }
    if target.prepared.is_some() {
        blocker.prepared.clone_from(&target.prepared);
    }
    blocker.protected = blocker.protection.is_some();
}

/// Updates the longest block of the entry, and the lock that was awaited then.
fn keep_longest(blocker: &mut Blocker, block: &CurrentBlock) {
    let blocked_for = block.blocked_for();
    if blocked_for >= blocker.blocked_for {
        blocker.blocked_for = blocked_for;
        blocker.lock.clone_from(&block.session.lock);
    }
}

/// Returns whether an entry and a target are the same session or prepared transaction.
///
/// A pid is used again after its session has ended; the start of the session distinguishes
/// the two. A session that has ended since it was found has no activity.
fn is_same(blocker: &Blocker, target: &Target) -> bool {
    if let (Some(known), Some(seen)) = (&blocker.prepared, &target.prepared) {
        return known.is_same(seen);
    }
    let start = |activity: Option<&PgActivity>| activity.and_then(|a| a.backend_start);
    let seen = target.row.blocking_activity.as_ref();
    blocker.pid.unwrap_or_default() == target.row.blocking_pid
        && blocker.prepared.is_some() == target.prepared.is_some()
        && (seen.is_none() || start(blocker.activity.as_ref()) == start(seen))
}
