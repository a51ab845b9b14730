//! The sessions that hold a lock, in one line.

use std::fmt;

use super::pg_activity::PgActivity;
use super::pg_lock::PgLock;
use crate::fmt::backquoted;
use crate::fmt::format_duration;
use crate::types::BackendState;

/// How many sessions a message names.
const NAMED: usize = 3;

/// How much of a name or a query it shows, in characters.
const SHOWN: usize = 80;

/// The end of a message: the sessions in the way, each once.
pub(crate) struct HeldBy<'l>(pub(crate) &'l [PgLock]);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sessions: Vec<&PgLock> = Vec::new();
        for lock in self.0 {
            let session = |it: &PgLock| (it.pid, it.virtual_transaction.clone());
            if !sessions.iter().any(|it| session(it) == session(lock)) {
                sessions.push(lock);
            }
        }
        for (i, lock) in sessions.iter().take(NAMED).enumerate() {
            f.write_str(if i == 0 { "; " } else { ", " })?;
            write_session(f, lock)?;
        }
        match sessions.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn write_session(f: &mut fmt::Formatter<'_>, lock: &PgLock) -> fmt::Result {
    f.write_str(if lock.granted {
        "held by "
    } else {
        "also wanted by "
    })?;
    let Some(pid) = lock.pid else {
        return f.write_str("a prepared transaction");
    };
    write!(f, "pid {pid}")?;
    let Some(activity) = &lock.activity else {
        return Ok(());
    };
    let details: Vec<String> = details(activity).collect();
    match details.is_empty() {
        true => Ok(()),
        false => write!(f, " ({})", details.join(", ")),
    }
}

/// What is known of a session; a restricted role knows little.
fn details(activity: &PgActivity) -> impl Iterator<Item = String> {
    let application = activity.application_name.as_deref().unwrap_or_default();
    let application = (!application.is_empty())
        .then(|| format!("application {}", backquoted(application, SHOWN)));
    let user = activity.user.as_deref();
    let user = user.map(|user| format!("user {}", backquoted(user, SHOWN)));
    let state = activity
        .state
        .as_ref()
        .map(|state| in_state(state, activity));
    let query = activity.query.as_deref().filter(|query| !query.is_empty());
    let running = activity.state == Some(BackendState::Active);
    let query = query.map(|query| {
        let which = if running { "query" } else { "last query" };
        format!("{which} {}", backquoted(query, SHOWN))
    });
    [application, user, state, query].into_iter().flatten()
}

fn in_state(state: &BackendState, activity: &PgActivity) -> String {
    match activity.transaction_duration {
        Some(age) if *state == BackendState::Active => {
            format!("active in a transaction for {}", format_duration(age))
        }
        Some(age) => format!("{state} for {}", format_duration(age)),
        None => state.to_string(),
    }
}
