//! Who is in the way of a run, for how long, and what was done about them.

use std::time::{Duration, Instant};

use super::report::Blocker;
use super::watch::Target;
use crate::signal::Block;
use crate::signal::{Signal, SignalKind, SignalOutcome};
use crate::views::{BlockedPgLock, PgActivity, PgLock};

/// Keeps book of the sessions in the way.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    present: Vec<Present>,
    /// All that were in the way of the run, in the order they were found.
    blockers: Vec<Blocker>,
}

/// Somebody who is in the way now.
#[derive(Debug)]
pub(crate) struct Present {
    /// Its place among the blockers.
    index: usize,
    block: Block,
    lock: PgLock,
    pub(crate) since: Instant,
    pub(crate) cancelled: Option<Instant>,
    pub(crate) terminated: bool,
    seen: bool,
}

impl Present {
    fn new(index: usize, lock: PgLock, block: Block) -> Self {
        Self {
            index,
            block,
            lock,
            since: Instant::now(),
            cancelled: None,
            terminated: false,
            seen: true,
        }
    }

    /// Goes on with the block, or begins anew with the next one.
    fn see(&mut self, lock: PgLock, block: Block) {
        if !block.continues(&self.block) {
            *self = Self::new(self.index, lock, block);
            return;
        }
        (self.lock, self.block, self.seen) = (lock, block, true);
    }
}

impl Presence {
    /// Notes the sessions in the way at a look; returns those found for the first time.
    pub(crate) fn note<'r>(&mut self, targets: impl Iterator<Item = &'r Target>) -> Vec<Blocker> {
        for present in &mut self.present {
            present.seen = false;
        }
        let known = self.blockers.len();
        for target in targets {
            self.see(target);
        }
        self.present.retain(|present| present.seen);
        for present in &self.present {
            keep_longest(&mut self.blockers[present.index], present);
        }
        self.blockers[known..].to_vec()
    }

    fn see(&mut self, target: &Target) {
        let index = self.entry(target);
        let (lock, block) = (target.row.lock.clone(), target.block.clone());
        match self.present.iter_mut().find(|it| it.index == index) {
            Some(present) => present.see(lock, block),
            None => self.present.push(Present::new(index, lock, block)),
        }
    }

    /// The place of the session among the blockers, where each has one entry.
    fn entry(&mut self, target: &Target) -> usize {
        let known = self
            .blockers
            .iter()
            .rposition(|it| is_same(it, &target.row));
        let index = known.unwrap_or_else(|| {
            self.blockers.push(blocker(&target.row));
            self.blockers.len() - 1
        });
        update(&mut self.blockers[index], target);
        index
    }

    /// The place of a session among those present.
    pub(crate) fn find(&self, row: &BlockedPgLock) -> Option<usize> {
        let is_row = |present: &Present| is_same(&self.blockers[present.index], row);
        self.present.iter().rposition(is_row)
    }

    pub(crate) fn present(&self, at: usize) -> &Present {
        &self.present[at]
    }

    pub(crate) fn blocker(&self, at: usize) -> &Blocker {
        &self.blockers[self.present[at].index]
    }

    /// The blocker as it is in the way now, which may not be its longest block.
    pub(crate) fn now(&self, at: usize) -> Blocker {
        let present = self.present(at);
        Blocker {
            lock: present.lock.clone(),
            blocked_for: present.since.elapsed(),
            ..self.blocker(at).clone()
        }
    }

    /// Notes what came of a signal; whether that is news. One who steps aside when its turn
    /// comes, or is spared, is found gone again and again, and denied again in each block.
    pub(crate) fn record(&mut self, at: usize, signal: Signal) -> bool {
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
        let signals = &mut self.blockers[present.index].signals;
        // Each once: a session can be in the way, and be signalled, any number of times.
        let is_known = signals.contains(&signal);
        let is_news = signal.outcome == SignalOutcome::Sent || !is_known;
        if !is_known {
            signals.push(signal);
        }
        is_news
    }

    /// How many sessions were signalled.
    pub(crate) fn victims(&self) -> usize {
        self.blockers.iter().filter(|it| it.is_victim()).count()
    }

    /// How long until the next of them has been in the way for `grace`.
    pub(crate) fn soonest(&self, grace: Duration) -> Option<Duration> {
        let left = |present: &Present| grace.checked_sub(present.since.elapsed());
        self.present.iter().filter_map(left).min()
    }

    pub(crate) fn into_blockers(self) -> Vec<Blocker> {
        self.blockers
    }
}

/// A session that is found in the way for the first time.
fn blocker(row: &BlockedPgLock) -> Blocker {
    let activity = row.blocking_activity.clone();
    Blocker {
        pid: (row.blocking_pid != 0).then_some(row.blocking_pid),
        protected: false,
        protection: None,
        activity,
        lock: row.lock.clone(),
        blocked_for: Duration::ZERO,
        signals: Vec::new(),
    }
}

/// Of a session that has ended since, what was known stays.
fn update(blocker: &mut Blocker, target: &Target) {
    if target.row.blocking_activity.is_some() {
        blocker.activity.clone_from(&target.row.blocking_activity);
        blocker.protection = target.protection;
    }
    blocker.protected = blocker.protection.is_some();
}

/// The entry shows the longest block, and the lock that was awaited then.
fn keep_longest(blocker: &mut Blocker, present: &Present) {
    let blocked_for = present.since.elapsed();
    if blocked_for >= blocker.blocked_for {
        blocker.blocked_for = blocked_for;
        blocker.lock.clone_from(&present.lock);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Wait;
    use crate::types::{LockMode, LockType};

    fn lock() -> PgLock {
        PgLock {
            pid: Some(1),
            lock_type: LockType::Relation,
            mode: LockMode::Share,
            granted: false,
            fast_path: false,
            wait_start: None,
            wait_duration: None,
            database: None,
            relation: None,
            relation_oid: None,
            advisory_key: None,
            page: None,
            tuple: None,
            virtual_xid: None,
            transaction_id: None,
            class_id: None,
            object_id: None,
            object_subid: None,
            virtual_transaction: "3/1".to_owned(),
            activity: None,
        }
    }

    fn block(transaction: &str) -> Block {
        let wait = Wait {
            process: 1,
            lock: "a lock".to_owned(),
            start: None,
            transaction: transaction.to_owned(),
        };
        Block {
            waits: vec![wait],
            blocker_transaction: None,
        }
    }

    #[test]
    fn what_was_sent_in_one_block_is_forgotten_in_the_next() {
        let mut present = Present::new(0, lock(), block("3/1"));
        let since = present.since;
        (present.cancelled, present.terminated) = (Some(since), true);
        present.see(lock(), block("3/1"));
        assert_eq!((present.since, present.cancelled), (since, Some(since)));
        present.see(lock(), block("3/2"));
        assert_eq!((present.cancelled, present.terminated), (None, false));
        assert!(present.since > since && present.seen);
    }
}
