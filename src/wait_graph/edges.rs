//! Who is in the way of whom, and whether by holding the lock or by having come first.

use std::collections::{BTreeMap, BTreeSet};

use super::node::WaitId;
use super::node::{BlockKind, WaitBlocker};
use super::query::ContestedLock;
use crate::views::PgLock;

/// What tells whether two locks are on the same thing.
type Thing<'a> = (
    (
        &'a str,
        Option<&'a str>,
        Option<u32>,
        Option<i32>,
        Option<i16>,
    ),
    (Option<&'a str>, Option<u32>),
    (Option<u32>, Option<u32>, Option<i16>),
);

fn thing(lock: &PgLock) -> Thing<'_> {
    (
        (
            lock.lock_type.as_str(),
            lock.database.as_deref(),
            lock.relation_oid,
            lock.page,
            lock.tuple,
        ),
        (lock.virtual_xid.as_deref(), lock.transaction_id),
        (lock.class_id, lock.object_id, lock.object_subid),
    )
}

type Things<'a> = BTreeMap<Thing<'a>, Vec<&'a PgLock>>;

/// The locks, by what they are on.
pub fn by_thing(rows: &[ContestedLock]) -> Things<'_> {
    let mut things = Things::new();
    for row in rows {
        things.entry(thing(&row.lock)).or_default().push(&row.lock);
    }
    things
}

/// Who is in the way of a lock, those who hold it first.
pub fn blockers(row: &ContestedLock, things: &Things<'_>) -> Vec<WaitBlocker> {
    let Some(pids) = &row.blocking_pids else {
        return Vec::new();
    };
    let rivals = &things[&thing(&row.lock)];
    let holders: BTreeSet<WaitId> = rivals
        .iter()
        .filter(|it| it.granted && it.mode.conflicts_with(&row.lock.mode))
        .map(|it| WaitId::of(it))
        .collect();
    let queue: BTreeSet<WaitId> = rivals
        .iter()
        .filter(|it| !it.granted)
        .map(|it| WaitId::of(it))
        .collect();
    let mut ids: BTreeSet<WaitId> = BTreeSet::new();
    for pid in pids {
        match pid {
            0 => ids.extend(holders.iter().filter(|id| id.pid().is_none()).cloned()),
            pid => ids.extend([WaitId::Session(*pid)]),
        }
    }
    let mut blockers: Vec<WaitBlocker> = ids
        .into_iter()
        .map(|id| {
            let soft = !holders.contains(&id) && queue.contains(&id);
            let kind = if soft {
                BlockKind::Soft
            } else {
                BlockKind::Hard
            };
            WaitBlocker {
                pid: id.pid(),
                id,
                kind,
            }
        })
        .collect();
    blockers.sort_by_key(|blocker| blocker.kind);
    blockers
}
