//! The latencies of other sessions while wait graphs are loaded ten times per second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{PgConnection, RunQueryDsl};
use diesel_pglock::WaitGraph;

use super::support::{BlockRow, Crowd, blocks_by_hand};
use crate::bench::Bench;
use crate::contest::Contest;
use crate::figures::{quantile, sorted};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;
use crate::{Result, check};

pub const WORK: Work = Work {
    name: "others",
    summary: "the p99 of other advisory locks, while `WaitGraph` is loaded at 10 Hz",
    has_free_targets: true,
    run,
};

const WAITERS: usize = 200;

const PERIOD: Duration = Duration::from_millis(100);

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let crowd = Crowd::of(bench, WAITERS)?;
    let length = bench.pick(Duration::from_secs(2), Duration::from_secs(1));
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let mut graph = || {
        let nodes = WaitGraph::load(&mut conn)?.nodes().count();
        check(nodes == WAITERS + 1, || format!("{nodes} sessions"))
    };
    let ours = || beside(bench, length, &mut graph);
    let mut contest = Contest::new(
        format!("p99 of other locks, `WaitGraph` at 10 Hz, {WAITERS} waiters"),
        ours,
    );
    let nothing = Peer::time("nothing loaded", || beside(bench, length, || Ok(())));
    contest.add(nothing.at_most(2.0).known_gap(4.1));
    let mut lateral = || {
        let blocks = blocks_by_hand().load::<BlockRow>(&mut plain)?.len();
        check(blocks == Crowd::blocks(WAITERS), || {
            format!("{blocks} blocks")
        })
    };
    let by_hand = || beside(bench, length, &mut lateral);
    contest.add(Peer::time("raw lateral at 10 Hz", by_hand));
    let rows = contest.run(bench.pick(11, 3))?.into_rows();
    drop(crowd);
    Ok(rows)
}

/// Returns the time that 99 % of another session's locks do not exceed, beside some work.
fn beside(
    bench: &Bench,
    length: Duration,
    mut work: impl FnMut() -> Result<()> + Send,
) -> Result<f64> {
    let mut other = bench.connect()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| periodically(&is_over, &mut work));
        let latencies = lock_for(&mut other, length);
        is_over.store(true, Ordering::Relaxed);
        working.join().map_err(|_| "the work panicked")??;
        Ok(quantile(&sorted(&latencies?), 0.99))
    })
}

fn periodically(is_over: &AtomicBool, work: &mut impl FnMut() -> Result<()>) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let started = Instant::now();
        work()?;
        thread::sleep(PERIOD.saturating_sub(started.elapsed()));
    }
    Ok(())
}

/// Acquires and releases a lock until the time is over, and returns the seconds of each.
fn lock_for(conn: &mut PgConnection, length: Duration) -> Result<Vec<f64>> {
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < length {
        let before = Instant::now();
        conn.batch_execute("SELECT pg_advisory_lock(11)")?;
        conn.batch_execute("SELECT pg_advisory_unlock(11)")?;
        latencies.push(before.elapsed().as_secs_f64());
    }
    Ok(latencies)
}
