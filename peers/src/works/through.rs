//! The wait of a blocked statement, until its blocker is terminated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::sql_types::Integer;
use diesel::{PgConnection, RunQueryDsl, sql_query};
use diesel_pglock::Prioritizer;
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::Contest;
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "through",
    summary: "a blocked statement, until it is through: interval 5 ms, grace 0",
    has_free_targets: false,
    run,
};

const INTERVAL: Duration = Duration::from_millis(5);

/// The waits of one run of a watcher: the first on a cold connection, then others.
const WAITS: usize = 5;

const TERMINATE: &str =
    "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS blocker(pid)";

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let create = "CREATE TABLE IF NOT EXISTS blocked (id int)";
    bench.connect()?.batch_execute(create)?;
    let mut rows = contest(bench, "first wait of a run", 1, 2.6)?;
    rows.extend(contest(bench, "later waits of a run", WAITS, 2.2)?);
    Ok(rows)
}

fn contest(bench: &Bench, which: &str, waits: usize, gap: f64) -> Result<Vec<Row>> {
    let prioritizer = Prioritizer::new(bench.url.clone())
        .interval(INTERVAL)
        .grace(Duration::ZERO);
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || conn.prioritize(&prioritizer, |conn| wait(bench, conn, waits));
    let mut contest = Contest::new(format!("blocked until through, {which}"), ours);
    let raw = || with_raw_watcher(bench, &mut plain, waits);
    let raw = Peer::time("raw watcher, each 5 ms", raw);
    contest.add(raw.at_most(1.3).known_gap(gap));
    Ok(contest.run(bench.pick(41, 9))?.into_rows())
}

/// Returns the seconds of the last of several waits, each for another idle transaction.
fn wait(bench: &Bench, conn: &mut PgConnection, waits: usize) -> Result<f64> {
    let mut last = 0.0;
    for _ in 0..waits {
        let mut holder = bench.connect()?;
        holder.batch_execute("BEGIN; LOCK TABLE blocked")?;
        let started = Instant::now();
        conn.batch_execute("BEGIN; LOCK TABLE blocked; COMMIT")?;
        last = started.elapsed().as_secs_f64();
    }
    Ok(last)
}

/// Does the same beside a thread that terminates all blockers at each poll.
fn with_raw_watcher(bench: &Bench, conn: &mut PgConnection, waits: usize) -> Result<f64> {
    let (pid, mut watcher) = (conn.backend_pid()?, bench.connect()?);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&mut watcher, pid, &is_over));
        let waited = wait(bench, conn, waits);
        is_over.store(true, Ordering::Relaxed);
        watching.join().map_err(|_| "the watcher panicked")??;
        waited
    })
}

fn watch(conn: &mut PgConnection, pid: i32, is_over: &AtomicBool) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        sql_query(TERMINATE).bind::<Integer, _>(pid).execute(conn)?;
        thread::sleep(INTERVAL);
    }
    Ok(())
}
