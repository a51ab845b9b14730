//! The text of a node: its name, its wait or activity, and its query, in one line.

use super::node::{BlockKind, Wait, WaitBlocker, WaitNode};
use crate::fmt::format_duration;
use crate::fmt::single_line;
use crate::views::PgActivity;

/// The greatest length of a query, in characters.
const MAX_QUERY: usize = 60;

/// The greatest length of the name of a client or a prepared transaction, in characters.
const MAX_NAME: usize = 30;

/// The greatest length of the name of a locked object, in characters.
const MAX_TARGET: usize = 2 * MAX_NAME;

/// Returns the name of a node: its pid, or the name of the prepared transaction.
pub fn name(node: &WaitNode) -> String {
    match (&node.pid, &node.gid) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(gid)) => format!("prepared transaction {}", single_line(gid, MAX_NAME)),
        (None, None) => "prepared transaction".to_owned(),
    }
}

/// Returns the headline of a node, followed by its query.
pub fn line(node: &WaitNode) -> String {
    let query = node.activity.as_ref().and_then(|it| it.query.as_deref());
    match query.map(|query| single_line(query, MAX_QUERY)) {
        Some(query) if !query.is_empty() => format!("{}: {query}", headline(node)),
        _ => headline(node),
    }
}

/// Returns the name of a node, its kind of process or its client's name, and its wait or activity.
pub fn headline(node: &WaitNode) -> String {
    let activity = node.activity.as_ref();
    let process = activity.and_then(PgActivity::server_process);
    let application = activity.and_then(|it| it.application_name.as_deref());
    let names = process.into_iter().chain(application);
    let names = names.map(|name| single_line(name, MAX_NAME));
    let names = names.filter(|name| !name.is_empty());
    let line = names.fold(name(node), |line, name| format!("{line} {name}"));
    match (&node.wait, activity) {
        (Some(wait), _) => line + &describe_wait(wait),
        (None, Some(activity)) => line + &describe_activity(activity),
        (None, None) => line,
    }
}

fn describe_wait(wait: &Wait) -> String {
    let lock = &wait.lock;
    let target = single_line(&lock.target().to_string(), MAX_TARGET);
    let duration = lock.wait_duration.map(format_duration);
    let duration = duration.map(|it| format!(" {it}")).unwrap_or_default();
    let blockers = describe_blockers(&wait.blockers);
    format!(" waits{duration} for {} on {target}{blockers}", lock.mode)
}

/// Returns the facts that the place in the tree, below the first blocker, does not show.
fn describe_blockers(blockers: &[WaitBlocker]) -> String {
    let is_hard = |blocker: &&WaitBlocker| blocker.kind == BlockKind::Hard;
    let first_is_soft = blockers
        .first()
        .is_some_and(|it| it.kind == BlockKind::Soft);
    let queue = if first_is_soft { ", in the queue" } else { "" };
    if blockers.is_empty() {
        return ", its blockers are unknown".to_owned();
    }
    match blockers.iter().skip(1).filter(is_hard).count() {
        0 => queue.to_owned(),
        more => format!("{queue}, held by {more} more"),
    }
}

fn describe_activity(activity: &PgActivity) -> String {
    let state = activity.state.as_ref().map(|state| format!(" {state}"));
    let open = activity.transaction_duration.map(format_duration);
    let open = open.map(|open| format!(", transaction open {open}"));
    state.unwrap_or_default() + &open.unwrap_or_default()
}
