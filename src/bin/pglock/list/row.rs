//! A row of a list.

use std::rc::Rc;

use diesel_pglock::{PgActivity, PgLock, PreparedTransaction, WaitNode};

/// A lock of the list; with `--blocking` a lock and one of its blockers.
#[derive(Clone, Debug)]
pub struct Row {
    pub lock: PgLock,
    /// The prepared transaction that holds the lock.
    pub prepared: Option<PreparedTransaction>,
    /// Shared, since a queue of n sessions has up to n × (n - 1) / 2 rows.
    pub blocker: Option<Rc<Blocker>>,
}

/// A session or a prepared transaction that blocks a lock.
#[derive(Clone, Debug)]
pub struct Blocker {
    /// 0 for a prepared transaction.
    pub pid: i32,
    pub prepared: Option<PreparedTransaction>,
    pub activity: Option<PgActivity>,
    /// True if it does not wait itself.
    pub is_root: bool,
    /// The number of sessions that it blocks, directly or through other waiters.
    pub blocks: usize,
    /// The processes that wait for it directly.
    pub waiters: Vec<i32>,
}

impl From<PgLock> for Row {
    fn from(lock: PgLock) -> Self {
        Self {
            lock,
            prepared: None,
            blocker: None,
        }
    }
}

impl Row {
    /// Returns the awaited lock of a waiter, with its session; `None` for a root.
    pub fn awaited(waiter: &WaitNode) -> Option<Self> {
        let mut lock = waiter.wait.as_ref()?.lock.clone();
        lock.activity.clone_from(&waiter.activity);
        Some(Self::from(lock))
    }
}

impl Blocker {
    pub fn new(node: &WaitNode, blocks: usize, waiters: Vec<i32>) -> Self {
        Self {
            pid: node.pid.unwrap_or_default(),
            prepared: node.prepared.clone(),
            activity: node.activity.clone(),
            is_root: node.wait.is_none(),
            blocks,
            waiters,
        }
    }
}
