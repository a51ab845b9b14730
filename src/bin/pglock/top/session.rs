//! A session of `pglock top`.

use std::cmp::Reverse;

use chrono::TimeDelta;
use diesel_pglock::{PgActivity, WaitGraph, WaitNode};

use crate::list::{client, name};
use crate::output::{clean, clean_lines};
use crate::signal::Victim;

/// A session that waits or blocks.
#[derive(Clone, Debug)]
pub struct Session {
    pub pid: Option<i32>,
    /// Its pid, or `prepared`.
    pub name: String,
    pub waits: Option<TimeDelta>,
    /// True if it blocks others and does not wait itself.
    pub is_root: bool,
    /// The number of sessions that it blocks, directly or through other waiters.
    pub blocks: usize,
    /// The age of its transaction.
    pub age: Option<TimeDelta>,
    /// True if its transaction has written.
    pub has_written: bool,
    /// The name of its client or of the prepared transaction, or the type of a server process.
    pub application: String,
    pub state: String,
    pub state_age: Option<TimeDelta>,
    pub database: String,
    pub user: String,
    /// The lock that it waits for.
    pub lock: String,
    /// Its query, or the statement that ends a prepared transaction.
    pub query: String,
    pub activity: Option<PgActivity>,
}

/// The sessions of a graph.
pub fn sessions(graph: &WaitGraph) -> Vec<Session> {
    let counts = graph.blocked_counts();
    counts
        .map(|(node, blocks)| Session::new(node, blocks))
        .collect()
}

impl Session {
    fn new(node: &WaitNode, blocks: usize) -> Self {
        let (wait, activity) = (node.wait.as_ref(), node.activity.as_ref());
        let prepared = node.prepared.as_ref();
        let age = prepared.map(|it| it.duration);
        let state = activity.and_then(|it| it.state.as_ref());
        let text = |text: Option<String>| clean(&text.unwrap_or_default());
        let user = prepared.map(|it| it.owner.clone());
        let database = prepared.map(|it| it.database.clone());
        let query = prepared.map(|it| it.rollback_statement());
        let query = query.or_else(|| activity?.query.clone());
        Self {
            pid: node.pid,
            name: name(node),
            // PostgreSQL 13 has no `waitstart`.
            waits: wait.map(|it| it.lock.wait_duration.unwrap_or_default()),
            is_root: wait.is_none(),
            blocks,
            age: age.or_else(|| activity?.transaction_duration),
            has_written: prepared.is_some() || activity.is_some_and(|it| it.backend_xid.is_some()),
            application: client(node),
            state: text(state.map(ToString::to_string)),
            state_age: activity.and_then(PgActivity::state_duration),
            database: text(database.or_else(|| activity?.database.clone())),
            user: text(user.or_else(|| activity?.user.clone())),
            lock: text(wait.map(|it| format!("{} on {}", it.lock.mode, it.lock.target()))),
            query: clean_lines(&query.unwrap_or_default()),
            activity: node.activity.clone(),
        }
    }

    /// Returns its identity, for a selection that outlives a snapshot.
    pub fn id(&self) -> (Option<i32>, String) {
        let gid = self.pid.is_none().then(|| self.application.clone());
        (self.pid, gid.unwrap_or_default())
    }

    /// Returns the session as one to signal; `None` for a prepared transaction.
    pub fn victim(&self) -> Option<Victim> {
        let victim = Victim::new(self.pid?, self.activity.clone());
        Some(victim.among_waits(self.blocks, !self.is_root))
    }

    /// Returns true if a text of the session contains the filter.
    pub fn contains(&self, filter: &str) -> bool {
        let texts = [
            &self.name,
            &self.application,
            &self.state,
            &self.database,
            &self.user,
            &self.lock,
            &self.query,
        ];
        let mut texts = texts.into_iter();
        texts.any(|text| text.to_lowercase().contains(filter))
    }
}

/// The order of the waiters, below the roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Wait,
    Blocks,
    Pid,
    Application,
}

impl Sort {
    /// Sorts the sessions: the roots first, the most harmful at the top.
    pub fn apply(self, sessions: &mut [Session]) {
        match self {
            Self::Wait => sessions.sort_by_key(|it| Reverse(it.waits)),
            Self::Blocks => sessions.sort_by_key(|it| Reverse(it.blocks)),
            Self::Pid => sessions.sort_by_key(|it| it.pid),
            Self::Application => sessions.sort_by(|a, b| a.application.cmp(&b.application)),
        }
        sessions.sort_by_key(|it| {
            let harm = it.is_root.then_some((it.blocks, it.age));
            Reverse(harm)
        });
    }

    pub fn next(self) -> Self {
        match self {
            Self::Wait => Self::Blocks,
            Self::Blocks => Self::Pid,
            Self::Pid => Self::Application,
            Self::Application => Self::Wait,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Blocks => "blocks",
            Self::Pid => "pid",
            Self::Application => "application",
        }
    }
}
