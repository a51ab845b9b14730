//! The record of the signals that prioritizers send.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};

use super::report::Blocker;
use crate::signal::Signal;
use crate::tables::signal_log;

/// An entry; the server adds the time and the sender.
#[derive(Insertable)]
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
}

/// The statement that records one signal to a session that held `us` up.
pub(crate) fn entry(
    blocker: &Blocker,
    signal: &Signal,
    held: Vec<String>,
    us: i32,
) -> impl QueryFragment<Pg> + QueryId + Send + 'static {
    let activity = blocker.activity.clone();
    let entry = Entry {
        kind: signal.kind.to_string(),
        outcome: signal.outcome.to_string(),
        pid: signal.pid,
        backend_start: activity.as_ref().and_then(|a| a.backend_start),
        state: activity
            .as_ref()
            .and_then(|a| a.state.as_ref())
            .map(ToString::to_string),
        transaction_seconds: activity
            .as_ref()
            .and_then(|a| a.transaction_duration)
            .map(|age| age.as_seconds_f64()),
        username: activity.as_ref().and_then(|a| a.user.clone()),
        application_name: activity.as_ref().and_then(|a| a.application_name.clone()),
        query: activity.and_then(|a| a.query),
        held,
        blocked_seconds: blocker.blocked_for.as_secs_f64(),
        blocked_pid: us,
    };
    diesel::insert_into(signal_log::table).values(entry)
}
