//! Wait graphs.

use diesel::RunQueryDsl;
use diesel_pglock::WaitGraph;

use super::support::{BlockRow, Crowd, blocks_by_hand, cpu_seconds};
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Peer, Race, per_call};
use crate::figures::{Spread, growth, median};
use crate::row::{Figure, Row};
use crate::work::Work;

pub const WORK: Work = Work {
    name: "graph",
    summary: "`WaitGraph::load` with 200, 500 and 1,000 waiters in one queue",
    has_free_targets: false,
    run,
};

/// The waiters, the targets, and the figures of today.
const FULL: &[(usize, f64, f64)] = &[(200, 0.9, 1.46), (500, 0.7, 1.34), (1_000, 0.7, 1.25)];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let sizes = bench.pick(FULL, &FULL[..1]);
    let mut rows = Vec::new();
    let mut costs = Vec::new();
    for (waiters, target, gap) in sizes {
        let crowd = Crowd::of(bench, *waiters)?;
        let race = race(bench, *waiters, *target, *gap)?;
        let client = client(bench, *waiters)?;
        drop(crowd);
        costs.push((Crowd::blocks(*waiters) as f64, client));
        let share = Spread::exact(client / race.ours());
        rows.extend(race.into_rows());
        let title = format!("`WaitGraph::load`, {waiters} waiters, client");
        rows.push(
            Row::new(title, Figure::ClientShare, share, LOADS)
                .at_most(0.05)
                .known_gap(0.40),
        );
    }
    if let [first, .., last] = costs[..] {
        let growth = Spread::exact(growth(first, last));
        let title = "`WaitGraph::load` from 200 to 1000 waiters, client, by blocks";
        rows.push(Row::new(title, Figure::Growth, growth, LOADS).at_most(1.05));
    }
    Ok(rows)
}

fn race(bench: &Bench, waiters: usize, target: f64, gap: f64) -> Result<Race> {
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || per_call(1, || complete(&WaitGraph::load(&mut conn)?, waiters));
    let mut contest = Contest::new(format!("`WaitGraph::load`, {waiters} waiters"), ours);
    let by_hand = || {
        per_call(1, || {
            let rows = blocks_by_hand().load::<BlockRow>(&mut plain)?;
            check(rows.len() == Crowd::blocks(waiters), || {
                "a block was not listed".to_owned()
            })
        })
    };
    contest.add(
        Peer::time("raw lateral", by_hand)
            .at_most(target)
            .known_gap(gap),
    );
    contest.run(bench.pick(9, 3))
}

/// The loads in which the client's own time is measured.
const LOADS: usize = 5;

/// Returns the median time that this thread computes in one load.
fn client(bench: &Bench, waiters: usize) -> Result<f64> {
    let mut conn = bench.connect()?;
    let mut load = || {
        let before = cpu_seconds()?;
        complete(&WaitGraph::load(&mut conn)?, waiters)?;
        Ok(cpu_seconds()? - before)
    };
    load()?; // prepares the statement
    let loads: Result<Vec<f64>> = (0..LOADS).map(|_| load()).collect();
    Ok(median(&loads?))
}

fn complete(graph: &WaitGraph, waiters: usize) -> Result<()> {
    let nodes = graph.nodes().count();
    check(nodes == waiters + 1, || {
        format!("{nodes} sessions are in the graph")
    })
}
