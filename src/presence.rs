//! Who is in the way of a run, for how long, and what was done about them.

use std::time::{Duration, Instant};

use crate::block::Block;
use crate::{BlockedPgLock, Blocker, PgActivity, PgLock, Signal, SignalKind, SignalOutcome};

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
    /// Notes who is in the way at a look, and how; those found for the first time.
    pub(crate) fn note<'r>(
        &mut self,
        rows: impl Iterator<Item = (&'r BlockedPgLock, &'r Block)>,
    ) -> Vec<Blocker> {
        for present in &mut self.present {
            present.seen = false;
        }
        let known = self.blockers.len();
        for (row, block) in rows {
            self.see(row, block);
        }
        self.present.retain(|present| present.seen);
        for present in &self.present {
            keep_longest(&mut self.blockers[present.index], present);
        }
        self.blockers[known..].to_vec()
    }

    fn see(&mut self, row: &BlockedPgLock, block: &Block) {
        let index = self.entry(row);
        let (lock, block) = (row.lock.clone(), block.clone());
        match self.present.iter_mut().find(|it| it.index == index) {
            Some(present) => present.see(lock, block),
            None => self.present.push(Present::new(index, lock, block)),
        }
    }

    /// The place of the session among the blockers, where each has one entry.
    fn entry(&mut self, row: &BlockedPgLock) -> usize {
        let known = self.blockers.iter().rposition(|it| is_same(it, row));
        let Some(index) = known else {
            self.blockers.push(blocker(row));
            return self.blockers.len() - 1;
        };
        update(&mut self.blockers[index], row);
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

/// Sessions that nobody is better off without: a walsender feeds a replica, and an
/// autovacuum that prevents a wraparound would start over, with less time left.
fn is_protected(activity: &PgActivity) -> bool {
    let query = activity.query.as_deref().unwrap_or_default();
    match activity.backend_type.as_deref() {
        Some("walsender") => true,
        Some("autovacuum worker") => !is_ordinary_vacuum(query),
        Some(_) => false,
        // One that this role may not look at: of the two, only a session has a user.
        None => activity.user.is_none(),
    }
}

/// Whether a worker's text shows that it may be ended, which PostgreSQL does itself with
/// an ordinary one. It is missing without `track_activities`, and may be cut where
/// `track_activity_query_size` is at its least.
fn is_ordinary_vacuum(query: &str) -> bool {
    const LEAST_SIZE: usize = 100;
    let is_whole = query.len() < LEAST_SIZE - 1;
    query.starts_with("autovacuum: ") && is_whole && !query.ends_with("(to prevent wraparound)")
}

/// A session that is found in the way for the first time.
fn blocker(row: &BlockedPgLock) -> Blocker {
    let activity = row.blocking_activity.clone();
    Blocker {
        pid: (row.blocking_pid != 0).then_some(row.blocking_pid),
        protected: activity.as_ref().is_some_and(is_protected),
        activity,
        lock: row.lock.clone(),
        blocked_for: Duration::ZERO,
        signals: Vec::new(),
    }
}

/// Of a session that has ended since, what was known stays.
fn update(blocker: &mut Blocker, row: &BlockedPgLock) {
    if row.blocking_activity.is_some() {
        blocker.activity.clone_from(&row.blocking_activity);
    }
    blocker.protected = blocker.activity.as_ref().is_some_and(is_protected);
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
    use crate::block::Wait;
    use crate::{LockMode, LockType};

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

    #[test]
    fn a_vacuum_may_be_ended_when_it_is_known_to_be_an_ordinary_one() {
        assert!(is_ordinary_vacuum("autovacuum: VACUUM public.users"));
        assert!(is_ordinary_vacuum("autovacuum: ANALYZE public.users"));
        let wraparound = "autovacuum: VACUUM public.users (to prevent wraparound)";
        assert!(!is_ordinary_vacuum(wraparound));
        assert!(!is_ordinary_vacuum(""));
        assert!(!is_ordinary_vacuum("<insufficient privilege>"));
        let cut = &format!("autovacuum: VACUUM public.{}", "long".repeat(30))[..99];
        assert!(!is_ordinary_vacuum(cut));
    }
}
