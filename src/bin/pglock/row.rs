use diesel_pglock::{PgActivity, PgLock};

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
