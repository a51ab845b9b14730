//! The sessions that hold a lock, in one line.

use std::fmt;

use super::pg_activity::PgActivity;
use super::pg_lock::PgLock;
use crate::fmt::backquoted;
use crate::fmt::format_duration;
use crate::fmt::single_line;
use crate::types::BackendState;

/// The greatest number of sessions in a message; the rest is counted.
const MAX_HOLDERS: usize = 3;

/// The greatest length of a name or a query in a message, in characters.
const MAX_TEXT: usize = 80;

/// The end of a message: the sessions that hold or await a lock, each once.
pub(crate) struct HeldBy<'l>(pub(crate) &'l [PgLock]);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = distinct_sessions(self.0);
        for (i, lock) in sessions.iter().take(MAX_HOLDERS).enumerate() {
            f.write_str(if i == 0 { "; " } else { ", " })?;
            write_session(f, lock)?;
        }
        match sessions.len().saturating_sub(MAX_HOLDERS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns the first lock of each session or prepared transaction.
fn distinct_sessions(locks: &[PgLock]) -> Vec<&PgLock> {
    let mut sessions: Vec<&PgLock> = Vec::new();
    for lock in locks {
        let is_same =
            |it: &&PgLock| it.pid == lock.pid && it.virtual_transaction == lock.virtual_transaction;
        if !sessions.iter().any(is_same) {
            sessions.push(lock);
        }
    }
    sessions
}

fn write_session(f: &mut fmt::Formatter<'_>, lock: &PgLock) -> fmt::Result {
    f.write_str(if lock.granted {
        "held by "
    } else {
        "also awaited by "
    })?;
    let Some(pid) = lock.pid else {
        return f.write_str("a prepared transaction");
    };
    write!(f, "pid {pid}")?;
    let details: Vec<String> = lock.activity.iter().flat_map(details).collect();
    if details.is_empty() {
        return Ok(());
    }
    write!(f, " ({})", details.join(", "))
}

/// Returns the known facts about a session; a restricted role reads few.
fn details(activity: &PgActivity) -> impl Iterator<Item = String> {
    let application = activity.application_name.as_deref();
    let application = application.filter(|name| !name.is_empty());
    let user = activity.user.as_deref();
    let state = activity.state.as_ref();
    [
        activity
            .server_process()
            .map(|it| single_line(it, MAX_TEXT)),
        application.map(|name| format!("application {}", backquoted(name, MAX_TEXT))),
        user.map(|name| format!("user {}", backquoted(name, MAX_TEXT))),
        state.map(|state| describe_state(state, activity)),
        describe_query(activity),
    ]
    .into_iter()
    .flatten()
}

fn describe_state(state: &BackendState, activity: &PgActivity) -> String {
    match activity.transaction_duration {
        Some(age) if *state == BackendState::Active => {
            format!("active in a transaction for {}", format_duration(age))
        }
        Some(age) => format!("{state} for {}", format_duration(age)),
        None => state.to_string(),
    }
}

fn describe_query(activity: &PgActivity) -> Option<String> {
    let query = activity
        .query
        .as_deref()
        .filter(|query| !query.is_empty())?;
    let is_running = activity.state == Some(BackendState::Active);
    let which = if is_running { "query" } else { "last query" };
    Some(format!("{which} {}", backquoted(query, MAX_TEXT)))
}
