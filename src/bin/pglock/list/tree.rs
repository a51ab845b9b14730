//! `pglock tree`.

use clap::Args;
use diesel_pglock::{WaitGraph, WaitNode};

use super::filter::Filter;
use super::locks::parse_pid;
use super::overview::summary_line;
use super::selection::Selection;

use crate::connect::{ConnectionArgs, Environment, LimitArgs, OtherDatabases, Settings};
use crate::failure::{Failure, Outcome};
use crate::output::show_json;
use crate::output::{Colour, Screen, show};

/// The waits to draw, and the format of the tree.
#[derive(Args, Clone, Debug)]
pub struct TreeArgs {
    /// Only the waits that concern these sessions
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pids: Vec<i32>,
    /// Only the waits for this table and its rows, and what concerns them; repeatable
    #[arg(short, long, value_name = "TABLE")]
    on: Vec<String>,
    /// Only waits with `FIELD=VALUE`, as in `pglock ls`, and what concerns them; repeatable
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Draws it for Graphviz
    #[arg(long, group = "format")]
    dot: bool,
    /// Draws it for Mermaid
    #[arg(long, group = "format")]
    mermaid: bool,
    /// Shows JSON
    #[arg(long, group = "format")]
    json: bool,
    /// The maximum number of waiters below one session; default: 20, on a terminal as many as fit
    #[arg(short, long, value_name = "NUMBER", conflicts_with = "format")]
    limit: Option<usize>,
    /// Connects to the other databases of the server too, to name their relations
    #[arg(long)]
    names: bool,
    #[command(flatten)]
    timeout: LimitArgs,
}

const MAX_CHILDREN: usize = 20;

/// The waiters below one session, at least, that are drawn without a limit of the user.
const MIN_CHILDREN: usize = 2;

/// Draws the summary and the tree, with so few waiters that the roots fit the screen.
fn draw(graph: &WaitGraph, limit: Option<usize>) -> String {
    let screen = Screen::of_stdout();
    if graph.is_empty() {
        return graph.to_string();
    }
    let summary = screen.fit(&summary_line(graph, &graph.worst_roots()));
    let tree = |limit| screen.fit(&graph.tree(limit).to_string());
    let draw = |limit| summary.clone() + &paint_roots(graph, &tree(limit), &screen);
    if let Some(limit) = limit {
        return draw(limit);
    }
    let mut trees = (MIN_CHILDREN..=MAX_CHILDREN).rev().map(draw);
    let fits = |text: &String| {
        screen
            .height
            .is_none_or(|height| text.lines().count() < height)
    };
    trees.find(fits).unwrap_or_else(|| draw(MIN_CHILDREN))
}

/// Colours the lines of the roots, as `pglock top` does.
fn paint_roots(graph: &WaitGraph, tree: &str, screen: &Screen) -> String {
    let roots: Vec<String> = graph.roots().map(start_of_line).collect();
    let is_root = |line: &str| {
        let mut rests = roots
            .iter()
            .filter_map(|root| line.strip_prefix(root.as_str()));
        rests.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let colour = |line| {
        if is_root(line) {
            Colour::Red
        } else {
            Colour::Plain
        }
    };
    let lines = tree
        .lines()
        .map(|line| screen.paint(colour(line), line) + "\n");
    lines.collect()
}

/// Returns the text with which the tree begins the line of a root; all other lines have branches
/// or other words before them.
fn start_of_line(root: &WaitNode) -> String {
    let pid = root.pid.map(|pid| pid.to_string());
    pid.unwrap_or_else(|| "prepared transaction".to_owned())
}

pub fn run(
    args: &TreeArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let database = connect.database(&Settings::find()?, environment)?;
    let mut conn = database.connect()?;
    let selection = Selection {
        pids: args.pids.clone(),
        on: args.on.clone(),
        filters: args.filter.clone(),
        ..Selection::default()
    };
    let mut graph = args
        .timeout
        .within(&mut conn, |conn| selection.graph(conn))?;
    if args.names {
        let waits = graph.nodes().filter_map(|node| node.wait.as_ref());
        let locks = waits.map(|wait| &wait.lock);
        let others = OtherDatabases::of_locks(locks, &database, args.timeout)?;
        graph.name_relations(|lock| others.relation(lock));
    }
    match args {
        TreeArgs { dot: true, .. } => show(&graph.to_dot())?,
        TreeArgs { mermaid: true, .. } => show(&graph.to_mermaid())?,
        TreeArgs { json: true, .. } => show_json(&graph)?,
        _ => show(&draw(&graph, args.limit))?,
    }
    Ok(Outcome::of_found(graph.nodes().count()))
}
