//! `pglock` without arguments: how many sessions wait, and behind which roots.

use diesel_pglock::{PgActivity, WaitGraph, WaitNode};

use super::locks::{hint_if, show_table};
use crate::connect::{ConnectionArgs, Environment, LimitArgs, Waits};
use crate::failure::{Failure, Outcome};
use crate::output::{Colour, Column, Line, Table, clean, clean_query, note, show};
use diesel_pglock::internal::format_duration;

/// The roots that the summary names; the rest is counted.
const MAX_NAMED: usize = 3;

/// The roots that are listed, so that they fit a screen.
const MAX_ROOTS: usize = 16;

/// The title of each column, its rank, and whether its cells may be cut.
const COLUMNS: [(&str, usize, bool); 8] = [
    ("ROOT", 0, false),
    ("BLOCKS", 1, false),
    ("APPLICATION", 3, true),
    ("STATE", 5, false),
    ("TX AGE", 2, false),
    ("DATABASE", 7, true),
    ("AWAITED", 4, true),
    ("QUERY", 6, true),
];

pub fn run(
    timeout: LimitArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let mut conn = connect.connect(environment)?;
    let graph = timeout.within(&mut conn, |conn| Waits::load(conn)?.noted())?;
    let roots = graph.worst_roots();
    show(&summary(&graph, &roots))?;
    if !roots.is_empty() {
        show_table(&table(&graph, &roots))?;
    }
    note(hint_if(has_hidden_activity(&graph)))?;
    if graph.is_empty() {
        note("`pglock ls` lists the locks\n")?;
    } else {
        note("`pglock tree` shows the waits, `pglock --roots --terminate` ends the roots\n")?;
    }
    Ok(Outcome::of_found(graph.nodes().count()))
}

/// Returns true if the role lacks the privilege to read some sessions.
pub fn has_hidden_activity(graph: &WaitGraph) -> bool {
    let mut activities = graph.nodes().filter_map(|node| node.activity.as_ref());
    activities.any(PgActivity::is_hidden)
}

/// Returns the summary, with a line for each deadlock.
fn summary(graph: &WaitGraph, roots: &[(&WaitNode, usize)]) -> String {
    let mut text = summary_line(graph, roots);
    text.extend(graph.cycles().iter().map(|cycle| describe_cycle(cycle)));
    text
}

/// Returns a line like `46 sessions wait behind 4: 26068 report (31), 26070 web (12), …`.
pub fn summary_line(graph: &WaitGraph, roots: &[(&WaitNode, usize)]) -> String {
    let waiting = graph.nodes().filter(|node| node.wait.is_some()).count();
    let behind = graph.count_behind_roots();
    let mut text = match (waiting, behind, roots.len()) {
        (0, ..) => return "no session waits for a lock\n".to_owned(),
        (1, 0, _) => "1 session waits".to_owned(),
        (_, 0, _) => format!("{waiting} sessions wait"),
        (_, 1, count) => format!("1 session waits behind {count}: {}", names(roots)),
        (_, _, count) => format!("{behind} sessions wait behind {count}: {}", names(roots)),
    };
    text.push('\n');
    text
}

fn describe_cycle(cycle: &[i32]) -> String {
    let pids: Vec<String> = cycle.iter().map(ToString::to_string).collect();
    format!("deadlock: {} → {}\n", pids.join(" → "), pids[0])
}

fn names(roots: &[(&WaitNode, usize)]) -> String {
    let named = roots.iter().take(MAX_NAMED);
    let name = |(root, count): &(&WaitNode, usize)| match client(root) {
        client if client.is_empty() => format!("{} ({count})", name(root)),
        client => format!("{} {client} ({count})", name(root)),
    };
    let mut names: Vec<String> = named.map(name).collect();
    names.extend((roots.len() > MAX_NAMED).then(|| "…".to_owned()));
    names.join(", ")
}

/// Returns the pid, or the word for a prepared transaction.
pub fn name(node: &WaitNode) -> String {
    node.pid
        .map_or("prepared".to_owned(), |pid| pid.to_string())
}

/// Returns the name of the client, of the prepared transaction, or the type of a server process.
pub fn client(node: &WaitNode) -> String {
    let activity = node.activity.as_ref();
    let application = activity.and_then(|it| it.application_name.as_deref());
    let application = application.filter(|name| !name.is_empty());
    let process = activity.and_then(|it| it.server_process());
    clean(
        node.gid
            .as_deref()
            .or(application)
            .or(process)
            .unwrap_or_default(),
    )
}

fn table(graph: &WaitGraph, roots: &[(&WaitNode, usize)]) -> Table {
    let columns = COLUMNS.map(|(title, rank, is_text)| Column {
        title: title.to_owned(),
        rank,
        is_text,
    });
    let line = |(root, count): &(&WaitNode, usize)| Line {
        colour: Colour::Plain,
        cells: cells(graph, root, *count),
    };
    let mut lines: Vec<Line> = roots.iter().take(MAX_ROOTS).map(line).collect();
    if let Some(more) = roots.len().checked_sub(MAX_ROOTS).filter(|more| *more > 0) {
        lines.push(Line::plain(vec![format!("… and {more} more")]));
    }
    Table::of_columns(columns.to_vec(), lines)
}

fn cells(graph: &WaitGraph, root: &WaitNode, blocks: usize) -> Vec<String> {
    let activity = root.activity.as_ref();
    let prepared = root.prepared.as_ref();
    let age = prepared.map(|it| it.duration);
    let age = age.or_else(|| activity?.transaction_duration);
    let state = activity.and_then(|it| it.state.as_ref());
    let database = prepared.map(|it| &it.database);
    let database = database.or_else(|| activity?.database.as_ref());
    let query = activity.and_then(|it| it.query.clone());
    let query = prepared.map(|it| it.rollback_statement()).or(query);
    let text = |text: Option<&String>| text.map(|it| clean(it)).unwrap_or_default();
    vec![
        name(root),
        blocks.to_string(),
        client(root),
        state.map(|it| clean(it.as_str())).unwrap_or_default(),
        age.map(format_duration).unwrap_or_default(),
        text(database),
        awaited(graph, root),
        clean_query(&query.unwrap_or_default()),
    ]
}

/// Returns the objects that its direct waiters wait for.
pub fn awaited(graph: &WaitGraph, root: &WaitNode) -> String {
    let mut targets: Vec<String> = Vec::new();
    for wait in graph.waiters_behind(root).filter_map(|it| it.wait.as_ref()) {
        let target = clean(&wait.lock.target().to_string());
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets.join(", ")
}
