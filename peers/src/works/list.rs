//! Lists of locks, with their relations and sessions.

use diesel::RunQueryDsl;
use diesel_pglock::PgLock;

use super::support::{LockRow, hold_locks, locks_by_hand};
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Race, seconds};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "list",
    summary: "`PgLock::query()` with 10,000 and 100,000 locks",
    has_free_targets: false,
    run,
};

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (small, large) = (10_000, bench.pick(100_000, 30_000));
    let few = race(bench, small, bench.rounds(), 1.8)?;
    let many = race(bench, large, bench.pick(9, 3), 1.7)?;
    let title = format!("list from {small} to {large} locks");
    let growth = Row::growth(
        title,
        (small as f64, few.least()),
        (large as f64, many.least()),
    );
    let rows = few.into_rows().into_iter().chain(many.into_rows());
    Ok(rows.chain([growth]).collect())
}

fn race(bench: &Bench, locks: usize, rounds: usize, gap: f64) -> Result<Race> {
    let holders = hold_locks(bench, locks)?;
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || {
        let mut list = || PgLock::query().load::<PgLock>(&mut conn);
        seconds(|| complete(list()?.len(), locks))
    };
    let mut contest = Contest::new(format!("list of {locks} locks"), ours);
    let by_hand = || {
        let mut list = || locks_by_hand(bench.version()).load::<LockRow>(&mut plain);
        seconds(|| complete(list()?.len(), locks))
    };
    let by_hand = Peer::time("25 columns by hand", by_hand);
    contest.add(by_hand.at_most(1.3).known_gap(gap));
    let race = contest.run(rounds)?;
    drop(holders);
    Ok(race)
}

fn complete(listed: usize, held: usize) -> Result<()> {
    check(listed >= held, || {
        format!("{listed} of {held} locks were listed")
    })
}
