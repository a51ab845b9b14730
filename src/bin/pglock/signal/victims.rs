//! The sessions that a signal is sent to.

use std::cmp::Reverse;
use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{blocking_activity, pg_stat_activity};
use diesel_pglock::{
    BackendState, BlockedPgLock, LockMode, PgActivity, Signal, SignalKind, SignalOutcome,
};

use super::request::SignalResult;
use crate::failure::Failure;
use crate::list::{Blocker, Row};
use crate::output::{clean, cut};
use diesel_pglock::internal::format_duration;

const MAX_NAME: usize = 30;
const MAX_QUERY: usize = 60;

/// A session to signal.
#[derive(Clone, Debug)]
pub struct Victim {
    pub pid: i32,
    activity: Option<Box<PgActivity>>,
    /// With `--blocking`: the session is signalled only while it blocks.
    block: Option<Block>,
}

/// The block of a session.
#[derive(Clone, Debug)]
struct Block {
    /// The processes of which it must still block one.
    waiters: Vec<i32>,
    /// True if it must still be a session that does not wait.
    is_root: bool,
    /// The number of sessions behind it, directly or through other waiters.
    blocks: usize,
}

/// Returns the sessions of the rows, each once: the blockers with `--blocking`.
pub fn victims(rows: &[Row]) -> Vec<Victim> {
    let mut victims: Vec<Victim> = Vec::new();
    let mut known = HashSet::new();
    for victim in rows.iter().filter_map(Victim::of_row) {
        if known.insert(victim.pid) {
            victims.push(victim);
        }
    }
    victims.sort_by_key(|victim| Reverse(victim.blocks()));
    victims
}

impl Victim {
    /// Creates a victim that is signalled even if it blocks no session.
    pub fn new(pid: i32, activity: Option<PgActivity>) -> Self {
        Self {
            pid,
            activity: activity.map(Box::new),
            block: None,
        }
    }

    /// Returns `None` for a prepared transaction, which has no session, and for a mark of a
    /// read, which is no lock.
    fn of_row(row: &Row) -> Option<Self> {
        let Some(blocker) = &row.blocker else {
            let is_lock = row.lock.mode != LockMode::SiReadLock;
            let pid = row.lock.pid.filter(|_| is_lock)?;
            return Some(Self::new(pid, row.lock.activity.clone()));
        };
        (blocker.pid != 0).then(|| Self::of_blocker(blocker))
    }

    /// Creates a victim that is signalled only while it blocks.
    pub fn of_blocker(blocker: &Blocker) -> Self {
        let block = Block {
            waiters: blocker.waiters.clone(),
            is_root: blocker.is_root,
            blocks: blocker.blocks,
        };
        Self {
            block: Some(block),
            ..Self::new(blocker.pid, blocker.activity.clone())
        }
    }

    /// Returns the number of sessions behind it; 0 if it was not selected for its blocks.
    pub fn blocks(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.blocks)
    }

    fn backend_start(&self) -> Option<DateTime<Utc>> {
        self.activity.as_ref()?.backend_start
    }

    /// Returns false for another session that was given the same pid.
    pub fn is_same_session(&self, other: &Self) -> bool {
        self.pid == other.pid && self.backend_start() == other.backend_start()
    }

    /// Describes the session on one line.
    pub fn describe(&self, kind: SignalKind) -> String {
        let Some(activity) = &self.activity else {
            return self.pid.to_string();
        };
        let mut words = vec![self.pid.to_string()];
        words.extend(identity(activity));
        let blocks = self
            .block
            .as_ref()
            .map(|it| format!(", blocks {}", it.blocks));
        words.join("  ")
            + &transaction(activity, kind)
            + &blocks.unwrap_or_default()
            + &query(activity)
    }

    /// Signals the session, unless it has ended or no longer blocks the waiters.
    pub fn signal(
        &self,
        conn: &mut PgConnection,
        kind: SignalKind,
    ) -> Result<SignalResult, Failure> {
        let signals = match &self.block {
            None => self.signal_session(conn, kind),
            Some(block) => self.signal_blocker(block, conn, kind),
        };
        let outcome = signals?.into_iter().next().map(|signal| signal.outcome);
        let outcome = outcome.unwrap_or(SignalOutcome::Gone);
        Ok(SignalResult::new(self.pid, kind, outcome))
    }

    fn signal_session(
        &self,
        conn: &mut PgConnection,
        kind: SignalKind,
    ) -> diesel_pglock::Result<Vec<Signal>> {
        let start = self.backend_start();
        let query = PgActivity::query()
            .filter(pg_stat_activity::pid.eq(self.pid))
            .filter(pg_stat_activity::backend_start.is_not_distinct_from(start));
        match kind {
            SignalKind::Cancel => query.cancel_activity(conn),
            SignalKind::Terminate => query.terminate_activity(conn),
        }
    }

    fn signal_blocker(
        &self,
        block: &Block,
        conn: &mut PgConnection,
        kind: SignalKind,
    ) -> diesel_pglock::Result<Vec<Signal>> {
        let start = blocking_activity.field(pg_stat_activity::backend_start);
        let query = BlockedPgLock::query()
            .pids(block.waiters.iter().copied())
            .blocked_by(self.pid)
            .filter(start.is_not_distinct_from(self.backend_start()));
        match (kind, block.is_root) {
            (SignalKind::Cancel, true) => query.roots().cancel_blocking_activity(conn),
            (SignalKind::Cancel, false) => query.cancel_blocking_activity(conn),
            (SignalKind::Terminate, true) => query.roots().terminate_blocking_activity(conn),
            (SignalKind::Terminate, false) => query.terminate_blocking_activity(conn),
        }
    }
}

/// Returns names, the type of a server process, and the state.
fn identity(activity: &PgActivity) -> impl Iterator<Item = String> {
    let names = [
        &activity.application_name,
        &activity.user,
        &activity.database,
    ];
    let names = names.into_iter().flatten();
    let names = names.map(|name| cut(&clean(name), MAX_NAME));
    let process = activity.server_process().map(clean);
    let state = activity.state.as_ref().map(|it| clean(it.as_str()));
    names.chain(process).chain(state)
}

fn transaction(activity: &PgActivity, kind: SignalKind) -> String {
    let open = activity.transaction_duration.map(format_duration);
    let open = open.map(|open| format!(", transaction open {open}"));
    let state = activity.state.as_ref();
    let is_idle = state.is_some_and(BackendState::is_idle_in_transaction);
    let warning = if is_idle && kind == SignalKind::Cancel {
        ", cancelling changes nothing"
    } else {
        ""
    };
    open.unwrap_or_default() + warning
}

fn query(activity: &PgActivity) -> String {
    match activity.query.as_deref().map(clean) {
        Some(query) if !query.is_empty() => format!(": {}", cut(&query, MAX_QUERY)),
        _ => String::new(),
    }
}
