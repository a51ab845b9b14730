//! Wait graphs.

use diesel::RunQueryDsl;
use diesel_pglock::WaitGraph;

use super::support::{BlockRow, Crowd, blocks_by_hand, cpu_seconds};
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Race, seconds};
use crate::figures::{Spread, median};
use crate::peer::Peer;
use crate::row::{Figure, Row};
use crate::work::Work;

pub const WORK: Work = Work {
    name: "graph",
    summary: "`WaitGraph::load` with 200, 500 and 1,000 waiters in one queue",
    has_free_targets: false,
    run,
};

/// A number of waiters, and the target there.
type Size = (usize, f64);

const SIZES: &[Size] = &[(200, 0.9), (500, 0.7), (1_000, 0.7)];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let sizes = bench.pick(SIZES, &SIZES[..1]);
    let (mut rows, mut costs) = (Vec::new(), Vec::new());
    for (waiters, target) in sizes {
        let crowd = Crowd::of(bench, *waiters)?;
        let race = race(bench, (*waiters, *target))?;
        let client = client(bench, *waiters)?;
        drop(crowd);
        costs.push((Crowd::blocks(*waiters) as f64, client));
        let share = share(*waiters, client / race.ours());
        rows.extend(race.into_rows().into_iter().chain([share]));
    }
    if let [first, .., last] = costs[..] {
        let title = "`WaitGraph::load` from 200 to 1000 waiters, client, by blocks";
        rows.push(Row::growth(title, first, last));
    }
    Ok(rows)
}

fn race(bench: &Bench, (waiters, target): Size) -> Result<Race> {
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || seconds(|| complete(&WaitGraph::load(&mut conn)?, waiters));
    let mut contest = Contest::new(format!("`WaitGraph::load`, {waiters} waiters"), ours);
    let by_hand = || {
        let mut list = || blocks_by_hand().load::<BlockRow>(&mut plain);
        seconds(|| {
            let is_complete = list()?.len() == Crowd::blocks(waiters);
            check(is_complete, || "a block was not listed".to_owned())
        })
    };
    let by_hand = Peer::time("raw lateral", by_hand);
    contest.add(by_hand.at_most(target));
    contest.run(bench.pick(9, 3))
}

fn share(waiters: usize, share: f64) -> Row {
    let title = format!("`WaitGraph::load`, {waiters} waiters, client");
    let row = Row::new(title, Figure::ClientShare, Spread::exact(share), LOADS);
    row.at_most(0.05).known_gap(0.35)
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
