//! Lists of waits, with each of their blockers.

use diesel::RunQueryDsl;
use diesel_pglock::BlockedPgLock;

use super::support::{BlockRow, Crowd, blocks_by_hand};
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Race, seconds};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "blocked",
    summary: "`BlockedPgLock::query()` with 200, 500 and 1,000 waiters in one queue",
    has_free_targets: false,
    run,
};

/// The numbers of waiters, and the figures of today.
const SIZES: &[(usize, f64)] = &[(200, 6.2), (500, 4.9), (1_000, 4.1)];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let sizes = bench.pick(SIZES, &SIZES[..1]);
    let (mut rows, mut costs) = (Vec::new(), Vec::new());
    for (waiters, gap) in sizes {
        let race = race(bench, *waiters, *gap)?;
        costs.push((Crowd::blocks(*waiters) as f64, race.least()));
        rows.extend(race.into_rows());
    }
    if let [first, .., last] = costs[..] {
        let title = "`BlockedPgLock` from 200 to 1000 waiters, by rows";
        rows.push(Row::growth(title, first, last));
    }
    Ok(rows)
}

fn race(bench: &Bench, waiters: usize, gap: f64) -> Result<Race> {
    let crowd = Crowd::of(bench, waiters)?;
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || {
        let mut list = || BlockedPgLock::query().load::<BlockedPgLock>(&mut conn);
        seconds(|| complete(list()?.len(), waiters))
    };
    let mut contest = Contest::new(format!("`BlockedPgLock`, {waiters} waiters"), ours);
    let by_hand = || {
        let mut list = || blocks_by_hand().load::<BlockRow>(&mut plain);
        seconds(|| complete(list()?.len(), waiters))
    };
    let by_hand = Peer::time("raw lateral", by_hand);
    contest.add(by_hand.at_most(1.5).known_gap(gap));
    let race = contest.run(bench.pick(5, 3))?;
    drop(crowd);
    Ok(race)
}

fn complete(rows: usize, waiters: usize) -> Result<()> {
    let expected = Crowd::blocks(waiters);
    check(rows == expected, || {
        format!("{rows} of {expected} blocks were listed")
    })
}
