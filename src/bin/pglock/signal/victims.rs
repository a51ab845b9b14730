//! The sessions that a signal is sent to.

use std::cmp::Reverse;
use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_pglock::{BackendState, LockMode, PgActivity, SignalKind, SignalOutcome};

use super::request::SignalResult;
use crate::failure::Failure;
use crate::list::{Blocker, Row};
use crate::output::{clean, clean_query, cut};
use diesel_pglock::internal::{SignalTarget, format_duration};

const MAX_NAME: usize = 30;
const MAX_QUERY: usize = 60;

/// A session to signal.
#[derive(Clone, Debug)]
pub struct Victim {
    pub pid: i32,
    activity: Option<Box<PgActivity>>,
    /// With `--blocking`: the session is signalled only while it blocks.
    block: Option<Block>,
    /// The number of sessions behind it, directly or through other waiters.
    blocks: usize,
    /// True if it waits itself, so that ending it ends no wait.
    is_queued: bool,
}

/// The block of a session.
#[derive(Clone, Debug)]
struct Block {
    /// The processes of which it must still block one.
    waiters: Vec<i32>,
    /// True if it must still be a session that does not wait.
    is_root: bool,
}

/// Returns the sessions of the rows, each once: the blockers with `--blocking`.
pub fn victims(rows: &[Row]) -> Vec<Victim> {
    let mut victims: Vec<Victim> = Vec::new();
    let mut known = HashSet::new();
    let processes = rows.iter().filter(|row| !is_worker_of_listed(row, rows));
    for victim in processes.filter_map(Victim::of_row) {
        if known.insert(victim.pid) {
            victims.push(victim);
        }
    }
    victims.sort_by_key(|victim| Reverse(victim.blocks));
    victims
}

/// Returns true for a worker of a parallel query whose leader is in the list: one session.
fn is_worker_of_listed(row: &Row, rows: &[Row]) -> bool {
    let activity = row.lock.activity.as_ref();
    let worker = activity.filter(|it| it.server_process() == Some("parallel worker"));
    let leader = worker.and_then(|it| it.leader_pid);
    leader.is_some() && rows.iter().any(|it| it.lock.pid == leader)
}

impl Victim {
    /// Creates a victim that is signalled even if it blocks no session.
    pub fn new(pid: i32, activity: Option<PgActivity>) -> Self {
        Self {
            pid,
            activity: activity.map(Box::new),
            block: None,
            blocks: 0,
            is_queued: false,
        }
    }

    /// Adds the place of the session in the wait graph.
    pub fn among_waits(self, blocks: usize, is_queued: bool) -> Self {
        Self {
            blocks,
            is_queued,
            ..self
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
        };
        let victim = Self::new(blocker.pid, blocker.activity.clone());
        Self {
            block: Some(block),
            ..victim.among_waits(blocker.blocks, !blocker.is_root)
        }
    }

    fn backend_start(&self) -> Option<DateTime<Utc>> {
        self.activity.as_ref()?.backend_start
    }

    /// Returns false for another session that was given the same pid.
    pub fn is_same_session(&self, other: &Self) -> bool {
        self.pid == other.pid && self.backend_start() == other.backend_start()
    }

    /// Describes the session on one line.
    pub fn describe(&self) -> String {
        let Some(activity) = &self.activity else {
            return self.pid.to_string();
        };
        let mut words = vec![self.pid.to_string()];
        words.extend(identity(activity));
        words.join("  ") + &transaction(activity) + &query(activity)
    }

    /// Describes what the signal will do: the waits that it ends, and the work that is lost.
    pub fn consequences(&self, kind: SignalKind) -> Vec<String> {
        let behind = match self.blocks {
            0 => None,
            1 => Some("1 session waits behind it".to_owned()),
            blocks => Some(format!("{blocks} sessions wait behind it")),
        };
        let queued = self.is_queued.then(|| {
            "it waits itself: the sessions behind it go on waiting for its blockers".to_owned()
        });
        let lost = self.activity.as_ref().and_then(|it| match kind {
            SignalKind::Terminate => rolled_back(it),
            SignalKind::Cancel => without_query(it),
        });
        behind.into_iter().chain(queued).chain(lost).collect()
    }

    /// Signals the session, unless it has ended or no longer blocks the waiters.
    pub fn signal(
        &self,
        conn: &mut PgConnection,
        kind: SignalKind,
    ) -> Result<SignalResult, Failure> {
        let (waiters, must_be_root) = match &self.block {
            None => (Vec::new(), false),
            Some(block) => (block.waiters.clone(), block.is_root),
        };
        let target = SignalTarget {
            pid: self.pid,
            backend_start: self.backend_start(),
            waiters,
            must_be_root,
        };
        let outcome = target.send(conn, kind)?.outcome;
        let advice = match outcome {
            SignalOutcome::Denied(_) => self.advice(conn)?,
            _ => None,
        };
        Ok(SignalResult::new(self.pid, kind, outcome).with_advice(advice))
    }

    /// Returns the privilege that allows a signal to the session.
    fn advice(&self, conn: &mut PgConnection) -> Result<Option<String>, Failure> {
        let user = self.activity.as_ref().and_then(|it| it.user.clone());
        let is_superuser = sql::<Nullable<Bool>>(
            "(SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = ",
        )
        .bind::<Nullable<Text>, _>(user)
        .sql(")");
        let role = sql::<Text>("pg_catalog.quote_ident(CURRENT_USER)");
        let (is_superuser, role): (Option<bool>, String) =
            diesel::select((is_superuser, role)).get_result(conn)?;
        Ok(Some(match is_superuser {
            Some(false) => format!("`GRANT pg_signal_backend TO {}` allows it", clean(&role)),
            _ => "only a superuser may signal it".to_owned(),
        }))
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

fn transaction(activity: &PgActivity) -> String {
    let open = activity.transaction_duration.map(format_duration);
    let open = open.map(|open| format!(", transaction open {open}"));
    open.unwrap_or_default()
}

/// Describes the work that ends with the session.
fn rolled_back(activity: &PgActivity) -> Option<String> {
    let age = format_duration(activity.transaction_duration?);
    Some(match activity.backend_xid {
        Some(_) => format!("its transaction has written; {age} of work are rolled back"),
        None => "its transaction has written nothing".to_owned(),
    })
}

/// Warns of a session that runs no query to cancel.
fn without_query(activity: &PgActivity) -> Option<String> {
    let state = activity.state.as_ref()?;
    let is_idle = state.is_idle_in_transaction() || *state == BackendState::Idle;
    is_idle.then(|| "it runs no query: cancelling changes nothing".to_owned())
}

fn query(activity: &PgActivity) -> String {
    match activity.query.as_deref().map(clean_query) {
        Some(query) if !query.is_empty() => format!(": {}", cut(&query, MAX_QUERY)),
        _ => String::new(),
    }
}
