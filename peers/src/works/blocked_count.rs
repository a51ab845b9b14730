//! The questions that a loaded graph answers.

use diesel_pglock::WaitGraph;

use super::support::Crowd;
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::seconds;
use crate::figures::Spread;
use crate::row::{Figure, Row};
use crate::work::Work;

pub const WORK: Work = Work {
    name: "blocked-count",
    summary: "`blocked_count` of all sessions of a graph with 1,000 waiters",
    has_free_targets: false,
    run,
};

/// The milliseconds that all answers may take together.
const LIMIT: f64 = 50.0;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (small, large) = bench.pick((200, 1_000), (100, 200));
    let (few, many) = (count(bench, small)?, count(bench, large)?);
    let title = format!("`blocked_count` of all, {large} waiters");
    let milliseconds = Spread::exact(many * 1e3);
    let time = Row::new(title, Figure::Milliseconds, milliseconds, 1).at_most(LIMIT);
    let title = format!("`blocked_count` of all, from {small} to {large} waiters, by blocks");
    let cost = |waiters, seconds| (Crowd::blocks(waiters) as f64, seconds);
    let growth = Row::growth(title, cost(small, few), cost(large, many));
    Ok(vec![time, growth.known_gap(1.1)])
}

fn count(bench: &Bench, waiters: usize) -> Result<f64> {
    let crowd = Crowd::of(bench, waiters)?;
    let graph = WaitGraph::load(&mut bench.connect()?)?;
    drop(crowd);
    let pids: Vec<i32> = graph.nodes().filter_map(|node| node.pid).collect();
    seconds(|| {
        let most = pids.iter().map(|pid| graph.blocked_count(*pid)).max();
        check(most == Some(waiters), || format!("the most is {most:?}"))
    })
}
