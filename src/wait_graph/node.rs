//! The nodes of the graph: sessions and prepared transactions, with their waits.

use chrono::TimeDelta;

use super::lock_tag::LockTag;
use super::query::WaitGraphRow;
use crate::views::{PgActivity, PgLock, PreparedTransaction};

/// The identity of a session or of a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum WaitId {
    Session(i32),
    /// The virtual transaction, since the name may be unknown.
    Prepared(String),
}

/// A waiter or a blocker: a session or a prepared transaction.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WaitNode {
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) id: WaitId,
    /// The process id of the session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of the prepared transaction; `None` for a session.
    pub gid: Option<String>,
    /// The prepared transaction, with its age, owner and database; `None` for a session.
    pub prepared: Option<PreparedTransaction>,
    /// The activity of the session; `None` for a prepared transaction.
    pub activity: Option<PgActivity>,
    /// The wait of the session; `None` for a root.
    pub wait: Option<Wait>,
}

/// An awaited lock with its blockers.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Wait {
    /// The awaited lock. Its `activity` is `None`: the node has it.
    pub lock: PgLock,
    /// The blockers, hard ones first; empty if the server does not show them.
    pub blockers: Vec<WaitBlocker>,
}

/// A blocker of a waiter, with the kind of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WaitBlocker {
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) id: WaitId,
    /// The process id of the session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of the prepared transaction, if it is known; `None` for a session.
    pub gid: Option<String>,
    /// The kind of the block.
    pub kind: BlockKind,
}

/// The kind of a block, as [`pg_blocking_pids`][pg] distinguishes them.
///
/// [pg]: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION
// Exhaustive: `pg_blocking_pids` knows these two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum BlockKind {
    /// The blocker holds a lock that conflicts; the wait lasts until it releases the lock.
    Hard,
    /// The blocker waits too, for a lock that conflicts, and is ahead in the queue.
    Soft,
}

impl WaitId {
    /// Returns the identity of the session that holds or awaits a lock.
    ///
    /// The processes of a parallel query count as their leader, as in `pg_blocking_pids`.
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

impl Wait {
    /// Returns whether it is the same wait as `earlier`, not another one for the same lock.
    pub(crate) fn continues(&self, earlier: &Self) -> bool {
        let (now, then) = (&self.lock, &earlier.lock);
        LockTag::of(now) == LockTag::of(then)
            && now.mode == then.mode
            && now.virtual_transaction == then.virtual_transaction
            && then
                .wait_start
                .is_none_or(|start| now.wait_start == Some(start))
    }
}

impl WaitNode {
    pub(crate) fn new(id: WaitId) -> Self {
        Self {
            pid: id.pid(),
            id,
            gid: None,
            prepared: None,
            activity: None,
            wait: None,
        }
    }

    /// Adds the facts of a row: the activity, the name, and the wait if there is one.
    ///
    /// The blockers are positions in `ids`.
    pub(crate) fn add(
        &mut self,
        row: WaitGraphRow,
        ids: &[WaitId],
        blockers: &[(usize, BlockKind)],
    ) {
        let WaitGraphRow {
            mut lock, prepared, ..
        } = row;
        let activity = lock.activity.take();
        self.activity = activity.or(self.activity.take());
        self.prepared = prepared.or(self.prepared.take());
        self.gid = self.prepared.as_ref().map(|it| it.gid.clone());
        // Of the processes of a parallel query several may wait.
        if !lock.granted && self.blockers().is_empty() {
            let blocker = |(session, kind): &(usize, BlockKind)| WaitBlocker {
                id: ids[*session].clone(),
                pid: ids[*session].pid(),
                gid: None,
                kind: *kind,
            };
            let blockers = blockers.iter().map(blocker).collect();
            self.wait = Some(Wait { lock, blockers });
        }
    }

    /// Returns the age of its transaction, if it is visible.
    pub(crate) fn transaction_age(&self) -> Option<TimeDelta> {
        let prepared = self.prepared.as_ref().map(|it| it.duration);
        let activity = self.activity.as_ref();
        prepared.or_else(|| activity?.transaction_duration)
    }

    pub(crate) fn blockers(&self) -> &[WaitBlocker] {
        self.wait.as_ref().map_or(&[], |wait| &wait.blockers)
    }

    /// Returns the node above this one in the tree: the first blocker, a hard one if there is one.
    pub(crate) fn parent(&self) -> Option<&WaitId> {
        self.blockers().first().map(|blocker| &blocker.id)
    }
}
