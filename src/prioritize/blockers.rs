//! The blockers of a run: their blocks, and the signals to them.

use std::time::Duration;

use super::current_block::CurrentBlock;
use super::report::Blocker;
use super::target::Target;
use crate::signal::{Signal, SignalOutcome};
use crate::views::{BlockedPgLock, PgActivity};

/// The record of the blockers of a run.
#[derive(Debug, Default)]
pub(super) struct Blockers {
    /// The blocks that the last poll has found.
    current: Vec<CurrentBlock>,
    /// All blockers of the run, in the order in which they were found.
    all: Vec<Blocker>,
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
        self.current.retain(|block| block.is_found);
        for block in &self.current {
            keep_longest(&mut self.all[block.blocker], block);
        }
        self.all[known..].to_vec()
    }

    fn note_target(&mut self, target: &Target) {
        let index = self.note_session(target);
        let (lock, block) = (target.row.lock.clone(), target.block.clone());
        match self.current.iter_mut().find(|it| it.blocker == index) {
            Some(current) => current.update(lock, block),
            None => self.current.push(CurrentBlock::new(index, lock, block)),
        }
    }

    /// Returns the index of the session among all blockers, where each session has one entry.
    fn note_session(&mut self, target: &Target) -> usize {
        let is_known = |it: &Blocker| is_same(it, &target.row);
        let index = self.all.iter().rposition(is_known).unwrap_or_else(|| {
            self.all.push(new_blocker(&target.row));
            self.all.len() - 1
        });
        update(&mut self.all[index], target);
        index
    }

    /// Returns the index of a session among the current blocks.
    pub(super) fn find(&self, row: &BlockedPgLock) -> Option<usize> {
        let is_row = |block: &CurrentBlock| is_same(&self.all[block.blocker], row);
        self.current.iter().rposition(is_row)
    }

    pub(super) fn current(&self, index: usize) -> &CurrentBlock {
        &self.current[index]
    }

    /// Returns the session of a current block.
    pub(super) fn session(&self, index: usize) -> &Blocker {
        &self.all[self.current[index].blocker]
    }

    /// Returns the blocker with its present block, which may not be its longest one.
    pub(super) fn with_current_block(&self, index: usize) -> Blocker {
        let current = self.current(index);
        Blocker {
            lock: current.lock.clone(),
            blocked_for: current.since.elapsed(),
            ..self.session(index).clone()
        }
    }

    /// Notes the outcome of a signal. Returns whether it is new.
    ///
    /// A session that stops blocking before each signal, or is spared, has the same outcome
    /// again and again, and a denied signal is denied in each block.
    pub(super) fn record(&mut self, index: usize, signal: Signal) -> bool {
        let current = &mut self.current[index];
        current.record(&signal);
        let signals = &mut self.all[current.blocker].signals;
        // Each once: a session can block, and be signalled, any number of times.
        let is_known = signals.contains(&signal);
        let is_new = signal.outcome == SignalOutcome::Sent || !is_known;
        if !is_known {
            signals.push(signal);
        }
        is_new
    }

    /// Returns the number of sessions that were signalled.
    pub(super) fn victim_count(&self) -> usize {
        self.all.iter().filter(|it| it.is_victim()).count()
    }

    /// Returns the time until the next grace period ends.
    pub(super) fn next_grace_end(&self, grace: Duration) -> Option<Duration> {
        let left = |block: &CurrentBlock| block.grace_left(grace);
        self.current.iter().filter_map(left).min()
    }

    pub(super) fn into_all(self) -> Vec<Blocker> {
        self.all
    }
}

/// Returns the entry of a session that is found for the first time.
fn new_blocker(row: &BlockedPgLock) -> Blocker {
    Blocker {
        pid: (row.blocking_pid != 0).then_some(row.blocking_pid),
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
    blocker.protected = blocker.protection.is_some();
}

/// Updates the longest block of the entry, and the lock that was awaited then.
fn keep_longest(blocker: &mut Blocker, block: &CurrentBlock) {
    let blocked_for = block.since.elapsed();
    if blocked_for >= blocker.blocked_for {
        blocker.blocked_for = blocked_for;
        blocker.lock.clone_from(&block.lock);
    }
}

/// Returns whether an entry and a row show the same session.
///
/// A pid is used again after its session has ended; the start of the session distinguishes
/// the two. A session that has ended since it was found has no activity.
fn is_same(blocker: &Blocker, row: &BlockedPgLock) -> bool {
    let start = |activity: Option<&PgActivity>| activity.and_then(|a| a.backend_start);
    let seen = row.blocking_activity.as_ref();
    blocker.pid.unwrap_or_default() == row.blocking_pid
        && (seen.is_none() || start(blocker.activity.as_ref()) == start(seen))
}
