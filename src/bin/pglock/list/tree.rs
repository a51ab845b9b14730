//! `pglock tree`.

use clap::Args;
use diesel_pglock::WaitGraph;

use crate::connect::{ConnectionArgs, Environment};
use crate::failure::{Failure, Outcome};
use crate::output::show_json;
use crate::output::{Screen, show};

/// The format of the tree.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub struct TreeArgs {
    /// Draws it for Graphviz
    #[arg(long)]
    dot: bool,
    /// Draws it for Mermaid
    #[arg(long)]
    mermaid: bool,
    /// Shows JSON
    #[arg(long)]
    json: bool,
}

pub fn run(
    args: TreeArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let graph = WaitGraph::load(&mut connect.connect(environment)?)?;
    match args {
        TreeArgs { dot: true, .. } => show(&graph.to_dot())?,
        TreeArgs { mermaid: true, .. } => show(&graph.to_mermaid())?,
        TreeArgs { json: true, .. } => show_json(&graph)?,
        _ => show(&Screen::of_stdout().fit(&graph.to_string()))?,
    }
    Ok(Outcome::of_found(graph.nodes().count()))
}
