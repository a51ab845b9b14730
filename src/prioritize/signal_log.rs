//! The table that records the signals of prioritizers.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};

use super::report::Blocker;
use crate::signal::Signal;
use crate::tables::signal_log;

/// An entry of the table. The server adds the time and the sender.
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

/// Returns the statement that records one signal to a session that blocked `blocked_pid`.
pub(super) fn entry(
    blocker: &Blocker,
    signal: &Signal,
    held: Vec<String>,
    blocked_pid: i32,
) -> impl QueryFragment<Pg> + QueryId + Send + 'static {
    let activity = blocker.activity.as_ref();
    let duration = activity.and_then(|it| it.transaction_duration);
    let state = activity.and_then(|it| it.state.as_ref());
    let entry = Entry {
        kind: signal.kind.to_string(),
        outcome: signal.outcome.to_string(),
        pid: signal.pid,
        backend_start: activity.and_then(|it| it.backend_start),
        username: activity.and_then(|it| it.user.clone()),
        application_name: activity.and_then(|it| it.application_name.clone()),
        state: state.map(ToString::to_string),
        query: activity.and_then(|it| it.query.clone()),
        transaction_seconds: duration.map(|it| it.as_seconds_f64()),
        held,
        blocked_seconds: blocker.blocked_for.as_secs_f64(),
        blocked_pid,
    };
    diesel::insert_into(signal_log::table).values(entry)
}
