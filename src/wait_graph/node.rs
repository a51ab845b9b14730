use super::query::ContestedLock;
use crate::views::{PgActivity, PgLock};

/// A session or a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum WaitId {
    Session(i32),
    /// By its virtual transaction, since its name may not be known.
    Prepared(String),
}

/// A session, or a prepared transaction, that waits or is waited for.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WaitNode {
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) id: WaitId,
    /// The session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of a prepared transaction.
    pub gid: Option<String>,
    /// What the session does.
    pub activity: Option<PgActivity>,
    /// What it waits for; `None` for a root.
    pub wait: Option<Wait>,
}

/// A lock that is awaited, and who is in its way.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Wait {
    /// The lock; the `activity` stands in the node.
    pub lock: PgLock,
    /// Who is in its way, those who hold it first.
    pub blockers: Vec<WaitBlocker>,
}

/// Who is in the way of a lock, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WaitBlocker {
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) id: WaitId,
    /// The session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// How it is in the way.
    pub kind: BlockKind,
}

/// How a session is in the way of another.
// Exhaustive: these are the two that `pg_blocking_pids` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum BlockKind {
    /// It holds a lock that conflicts: while it does, nothing else helps.
    Hard,
    /// It waits too, for a lock that conflicts, and came first.
    Soft,
}

impl WaitId {
    /// Whoever holds or awaits the lock for a parallel query, PostgreSQL names its leader.
    pub(crate) fn of(lock: &PgLock) -> Self {
        let session = lock.activity.as_ref().map(|session| session.pid);
        match session.or(lock.pid) {
            Some(pid) => Self::Session(pid),
            None => Self::Prepared(lock.virtual_transaction.clone()),
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Session(pid) => Some(*pid),
            Self::Prepared(_) => None,
        }
    }
}

impl WaitNode {
    pub(crate) fn new(id: WaitId) -> Self {
        Self {
            pid: id.pid(),
            id,
            gid: None,
            activity: None,
            wait: None,
        }
    }

    pub(crate) fn add(&mut self, row: ContestedLock, blockers: Vec<WaitBlocker>) {
        let ContestedLock { mut lock, gid, .. } = row;
        let activity = lock.activity.take();
        self.activity = activity.or(self.activity.take());
        self.gid = gid.or(self.gid.take());
        if !lock.granted && !blockers.is_empty() {
            self.wait = Some(Wait { lock, blockers });
        }
    }

    pub(crate) fn blockers(&self) -> &[WaitBlocker] {
        self.wait.as_ref().map_or(&[], |wait| &wait.blockers)
    }

    /// Whom the tree puts it under: the first who holds the lock, or else who came first.
    pub(crate) fn parent(&self) -> Option<&WaitId> {
        self.blockers().first().map(|blocker| &blocker.id)
    }
}
