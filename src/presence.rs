//! Who is in the way of a run, for how long, and what was done about them.

use std::mem::take;
use std::time::{Duration, Instant};

use crate::{BlockedPgLock, Blocker, PgActivity, Signal, SignalKind, SignalOutcome};

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
    pub(crate) since: Instant,
    pub(crate) cancelled: Option<Instant>,
    pub(crate) terminated: bool,
    seen: bool,
}

impl Presence {
    /// Notes who is in the way at a look; the newcomers among them.
    pub(crate) fn note<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r BlockedPgLock>,
    ) -> Vec<Blocker> {
        for present in &mut self.present {
            present.seen = false;
        }
        let known = self.blockers.len();
        for row in rows {
            self.see(row);
        }
        let blockers = &mut self.blockers;
        self.present.retain(|present| {
            if present.seen {
                blockers[present.index].blocked_for = present.since.elapsed();
            }
            present.seen
        });
        self.blockers[known..].to_vec()
    }

    fn see(&mut self, row: &BlockedPgLock) {
        let at = self.find(row).unwrap_or_else(|| self.arrive(row));
        self.present[at].seen = true;
        let known = &mut self.blockers[self.present[at].index];
        let (activity, signals) = (known.activity.take(), take(&mut known.signals));
        *known = blocker(row, activity, signals);
    }

    fn arrive(&mut self, row: &BlockedPgLock) -> usize {
        self.blockers.push(blocker(row, None, Vec::new()));
        self.present.push(Present {
            index: self.blockers.len() - 1,
            since: Instant::now(),
            cancelled: None,
            terminated: false,
            seen: true,
        });
        self.present.len() - 1
    }

    /// The place of a session among those present.
    pub(crate) fn find(&self, row: &BlockedPgLock) -> Option<usize> {
        let is_row = |present: &Present| is_same(&self.blockers[present.index], row);
        self.present.iter().position(is_row)
    }

    pub(crate) fn present(&self, at: usize) -> &Present {
        &self.present[at]
    }

    pub(crate) fn blocker(&self, at: usize) -> &Blocker {
        &self.blockers[self.present[at].index]
    }

    /// Notes what came of a signal; whether that is news. One who steps aside when its turn
    /// comes, or is spared, is found gone again and again.
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
        let is_news = signal.outcome != SignalOutcome::Gone || signals.last() != Some(&signal);
        if is_news {
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

#[cfg(test)]
mod tests {
    use super::*;

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
