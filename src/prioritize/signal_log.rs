//! The table that records the signals of prioritizers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::report::Blocker;
use crate::error::Result;
use crate::fmt::without_passwords;
use crate::session::Driver;
use crate::signal::Signal;
use crate::tables::signal_log;

/// An entry of the table. The server adds the time and the sender.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = signal_log)]
struct Entry {
    kind: String,
    outcome: String,
    pid: i32,
    backend_start: Option<DateTime<Utc>>,
    username: Option<String>,
    application_name: Option<String>,
    state: Option<String>,
    query: Option<String>,
    transaction_seconds: Option<f64>,
    held: Vec<String>,
    blocked_seconds: f64,
    blocked_pid: i32,
    sender_application_name: String,
}

/// The columns that an old table lacks.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = signal_log)]
struct Context {
    database: Option<String>,
    client_addr: Option<String>,
    awaited: Option<String>,
    wait_path: Option<Vec<i32>>,
    blocked_query: Option<String>,
    work: Option<String>,
}

/// What was read about a signal before it was sent.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The locks that the blocker held.
    pub(super) held: Vec<String>,
    /// The query of the prioritized session.
    pub(super) blocked_query: Option<String>,
    /// The sessions from the prioritized session to the blocker.
    pub(super) wait_path: Vec<i32>,
}

/// An entry that is not written yet.
#[derive(Clone, Debug)]
struct Pending {
    entry: Entry,
    context: Context,
    signal: Signal,
}

/// The time after which a failed entry is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The entries that are not written yet.
///
/// A signal does not wait for its entry: the poll that has sent it writes the entry at its end,
/// and later polls try again.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    /// The application name of the watcher's session before the watcher changed it.
    pub(super) sender: String,
    /// True if the table has the columns of [`Context`].
    pub(super) has_context: bool,
    /// The migration that is prioritized.
    pub(super) work: Option<String>,
    pending: VecDeque<Pending>,
    failed: Option<Instant>,
}

impl LogQueue {
    /// Creates the queue of a session whose application is named `sender`.
    #[cfg(feature = "cli")]
    pub(super) fn new(sender: String, has_context: bool) -> Self {
        Self {
            sender,
            has_context,
            ..Self::default()
        }
    }

    /// Adds a signal to a session that blocked `blocked_pid`.
    pub(super) fn add(
        &mut self,
        blocker: &Blocker,
        signal: &Signal,
        evidence: Evidence,
        blocked_pid: i32,
    ) {
        let entry = Entry {
            held: evidence.held,
            blocked_pid,
            sender_application_name: self.sender.clone(),
            ..entry(blocker, signal)
        };
        let mut context = Context {
            blocked_query: evidence.blocked_query.as_deref().map(short),
            work: self.work.clone(),
            ..context(blocker)
        };
        if evidence.wait_path.is_empty() {
            // No session waited for it.
            context.awaited = None;
        } else {
            context.wait_path = Some(evidence.wait_path);
        }
        self.pending.push_back(Pending {
            entry,
            context,
            signal: signal.clone(),
        });
    }

    /// Tries again at the next occasion.
    pub(super) fn retry_now(&mut self) {
        self.failed = None;
    }

    /// Writes the pending entries, up to the first one that fails.
    pub(super) async fn write(&mut self, driver: &mut impl Driver) -> Result<()> {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return Ok(());
        }
        while let Some(pending) = self.pending.front().cloned() {
            let written = insert(driver, pending, self.has_context).await;
            self.failed = written.is_err().then(Instant::now);
            written?;
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Returns the signals whose entries are not written.
    pub(super) fn unlogged(&self) -> Vec<Signal> {
        let signals = self.pending.iter().map(|pending| pending.signal.clone());
        signals.collect()
    }
}

async fn insert(driver: &mut impl Driver, pending: Pending, has_context: bool) -> Result<()> {
    let insert = diesel::insert_into(signal_log::table);
    let written = if has_context {
        driver
            .execute(insert.values((pending.entry, pending.context)))
            .await
    } else {
        driver.execute(insert.values(pending.entry)).await
    };
    Ok(written?)
}

fn context(blocker: &Blocker) -> Context {
    let activity = blocker.activity.as_ref();
    let client_addr = activity.and_then(|it| it.client_addr);
    Context {
        database: activity.and_then(|it| it.database.clone()),
        client_addr: client_addr.map(|address| address.to_string()),
        awaited: Some(format!(
            "{} on {}",
            blocker.lock.mode,
            blocker.lock.target()
        )),
        wait_path: None,
        blocked_query: None,
        work: None,
    }
}

/// Returns a query without passwords, cut at 1,024 bytes.
fn short(query: &str) -> String {
    const MOST: usize = 1024;
    let query = without_passwords(query);
    let fits = |&(start, c): &(usize, char)| start + c.len_utf8() <= MOST;
    query
        .char_indices()
        .take_while(fits)
        .map(|(_, c)| c)
        .collect()
}

/// Returns the entry for a signal, without what only the watcher knows.
fn entry(blocker: &Blocker, signal: &Signal) -> Entry {
    let activity = blocker.activity.as_ref();
    let duration = activity.and_then(|it| it.transaction_duration);
    let state = activity.and_then(|it| it.state.as_ref());
    Entry {
        kind: signal.kind.to_string(),
        outcome: signal.outcome.to_string(),
        pid: signal.pid,
        backend_start: activity.and_then(|it| it.backend_start),
        username: activity.and_then(|it| it.user.clone()),
        application_name: activity.and_then(|it| it.application_name.clone()),
        state: state.map(ToString::to_string),
        query: activity.and_then(|it| it.query.as_deref().map(short)),
        transaction_seconds: duration.map(|it| it.as_seconds_f64()),
        held: Vec::new(),
        blocked_seconds: blocker.blocked_for.as_secs_f64(),
        blocked_pid: 0,
        sender_application_name: String::new(),
    }
}
