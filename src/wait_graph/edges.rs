//! The edges of the graph: the blockers of each awaited lock, and the kind of each block.

use std::collections::BTreeSet;

use super::lock_tag::{LockTag, LocksByTag};
use super::node::WaitId;
use super::node::{BlockKind, WaitBlocker};
use super::query::WaitGraphRow;
use crate::views::PgLock;

/// Returns the blockers of a lock, hard blockers first; empty for a held lock.
pub fn blockers(row: &WaitGraphRow, locks: &LocksByTag<'_>) -> Vec<WaitBlocker> {
    let Some(pids) = &row.blocking_pids else {
        return Vec::new();
    };
    let competitors = Competitors::of(&row.lock, &locks[&LockTag::of(&row.lock)]);
    let ids: BTreeSet<WaitId> = pids.iter().flat_map(|pid| competitors.ids(*pid)).collect();
    let mut blockers: Vec<_> = ids.into_iter().map(|id| competitors.blocker(id)).collect();
    blockers.sort_by_key(|blocker| blocker.kind);
    blockers
}

/// The sessions that hold or await the same lock.
struct Competitors {
    holders: BTreeSet<WaitId>,
    waiters: BTreeSet<WaitId>,
}

impl Competitors {
    fn of(lock: &PgLock, locks_on_tag: &[&PgLock]) -> Self {
        let held_in_conflict = |it: &PgLock| it.granted && it.mode.conflicts_with(&lock.mode);
        let ids = |keep: &dyn Fn(&PgLock) -> bool| {
            let kept = locks_on_tag.iter().filter(|it| keep(it));
            kept.map(|it| WaitId::of(it)).collect()
        };
        Self {
            holders: ids(&held_in_conflict),
            waiters: ids(&|it| !it.granted),
        }
    }

    /// Returns the blockers behind an entry of `pg_blocking_pids`.
    ///
    /// The entry 0 means a prepared transaction, and does not identify it.
    fn ids(&self, blocking_pid: i32) -> Vec<WaitId> {
        if blocking_pid != 0 {
            return vec![WaitId::Session(blocking_pid)];
        }
        let holders = self.holders.iter();
        holders.filter(|id| id.pid().is_none()).cloned().collect()
    }

    fn blocker(&self, id: WaitId) -> WaitBlocker {
        let is_soft = !self.holders.contains(&id) && self.waiters.contains(&id);
        WaitBlocker {
            pid: id.pid(),
            kind: if is_soft {
                BlockKind::Soft
            } else {
                BlockKind::Hard
            },
            id,
        }
    }
}
