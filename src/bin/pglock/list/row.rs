//! A row of a list.

use diesel_pglock::{BlockedPgLock, PgActivity, PgLock};

/// A lock of the list; with `--blocking` a lock and one of its blockers.
#[derive(Clone, Debug)]
pub struct Row {
    pub lock: PgLock,
    /// The name of the prepared transaction that holds the lock.
    pub prepared: Option<String>,
    pub blocker: Option<Blocker>,
}

/// A session that blocks a lock, or prepared transactions that do.
#[derive(Clone, Debug)]
pub struct Blocker {
    /// 0 for prepared transactions.
    pub pid: i32,
    /// The names of the prepared transactions.
    pub prepared: Option<String>,
    pub activity: Option<PgActivity>,
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

impl From<BlockedPgLock> for Row {
    fn from(blocked: BlockedPgLock) -> Self {
        let blocker = Blocker {
            pid: blocked.blocking_pid,
            prepared: None,
            activity: blocked.blocking_activity,
        };
        Self {
            blocker: Some(blocker),
            ..Self::from(blocked.lock)
        }
    }
}
