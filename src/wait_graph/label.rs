//! The text of a node: its name, its wait or activity, and its query, in one line.

use super::node::{BlockKind, Wait, WaitBlocker, WaitNode};
use crate::fmt::format_duration;
use crate::fmt::{quote_literal, single_line, single_line_query};
use crate::views::PgActivity;

/// The greatest length of a query, in characters.
const MAX_QUERY: usize = 60;

/// The greatest length of the name of a client, in characters.
const MAX_NAME: usize = 30;

/// The greatest length of the name of a locked object, in characters.
const MAX_TARGET: usize = 2 * MAX_NAME;

/// The greatest number of holders that are named beside the one above in the tree.
const MAX_HOLDERS: usize = 4;

/// Returns the name of a node: its pid, or the name of the prepared transaction.
pub fn name(node: &WaitNode) -> String {
    match (&node.pid, &node.gid) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(gid)) => format!("prepared transaction {}", quote_literal(gid)),
        (None, None) => "prepared transaction".to_owned(),
    }
}

/// Returns the headline of a node, the number of sessions that it blocks, and its query.
pub fn line(node: &WaitNode, blocks: Option<usize>) -> String {
    let blocks = blocks.map(|count| format!(", blocks {count}"));
    let head = headline(node) + &blocks.unwrap_or_default();
    if let Some(prepared) = &node.prepared {
        return format!("{head}; to end it: {}", prepared.rollback_statement());
    }
    let query = node.activity.as_ref().and_then(|it| it.query.as_deref());
    match query.map(|query| single_line_query(query, MAX_QUERY)) {
        Some(query) if !query.is_empty() => format!("{head}: {query}"),
        _ => head,
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
        (None, None) => {
            let prepared = node.prepared.as_ref();
            let origin = prepared.map(|it| format!(" {}", it.origin()));
            line + &origin.unwrap_or_default()
        }
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
    let others = blockers.iter().skip(1).filter(is_hard);
    queue.to_owned() + &describe_holders(others)
}

/// Names the other holders of an awaited lock.
fn describe_holders<'b>(others: impl Iterator<Item = &'b WaitBlocker> + Clone) -> String {
    let named = others.clone().take(MAX_HOLDERS);
    let name = |it: &WaitBlocker| match it.pid {
        Some(pid) => pid.to_string(),
        None => "a prepared transaction".to_owned(),
    };
    let names: Vec<String> = named.map(name).collect();
    let more = match others.count().saturating_sub(MAX_HOLDERS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if names.is_empty() {
        return String::new();
    }
    format!(", also held by {}{more}", names.join(", "))
}

fn describe_activity(activity: &PgActivity) -> String {
    let state = activity.state.as_ref().map(|state| format!(" {state}"));
    let open = activity.transaction_duration.map(format_duration);
    let open = open.map(|open| format!(", transaction open {open}"));
    state.unwrap_or_default() + &open.unwrap_or_default()
}
