//! One advisory lock for which many threads compete.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{PgConnection, RunQueryDsl, sql_query};
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::Contest;
use crate::peer::Peer;
use crate::placement::Placement;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "threads",
    summary: "one advisory lock, acquired by 64 threads in turn",
    has_free_targets: true,
    run,
};

const THREADS: usize = 64;

const KEY: i64 = 10;

/// The target and the figure of today.
const ON_ONE_CPU: (f64, f64) = (0.8, 0.37);
const ON_ALL_CPUS: (f64, f64) = (0.9, 0.58);

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let turns = bench.pick(50, 10);
    let (target, gap) = match bench.placement {
        Placement::OneCpu => ON_ONE_CPU,
        Placement::AllCpus => ON_ALL_CPUS,
    };
    let mut contest = Contest::new(
        format!("one key, {THREADS} threads"),
        sample(bench, turns, ours)?,
    );
    let libpq = Peer::speed("libpq, `PQexec`", sample(bench, turns, libpq)?);
    contest.add(libpq.at_least(target).known_gap(gap));
    contest.add(Peer::speed(
        "Diesel, `sql_query`",
        sample(bench, turns, by_sql_query)?,
    ));
    Ok(contest.run(bench.pick(11, 3))?.into_rows())
}

fn ours(conn: &mut PgConnection) -> Result<()> {
    Ok(conn
        .advisory(KEY)
        .run(|_| diesel_pglock::Result::<_>::Ok(()))?)
}

/// Sends the text of each statement as the C library does, without a parameter.
fn libpq(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute("SELECT pg_advisory_lock(10)")?;
    Ok(conn.batch_execute("SELECT pg_advisory_unlock(10)")?)
}

fn by_sql_query(conn: &mut PgConnection) -> Result<()> {
    for function in ["pg_advisory_lock", "pg_advisory_unlock"] {
        let query = sql_query(format!("SELECT {function}($1)"));
        query.bind::<BigInt, _>(KEY).execute(conn)?;
    }
    Ok(())
}

/// Returns a sample of sessions that all take turns: the seconds of one turn.
fn sample(
    bench: &Bench,
    turns: usize,
    turn: fn(&mut PgConnection) -> Result<()>,
) -> Result<impl FnMut() -> Result<f64>> {
    let sessions: Result<Vec<_>> = (0..THREADS).map(|_| bench.connect()).collect();
    let mut sessions = sessions?;
    Ok(move || take_turns(&mut sessions, turns, turn))
}

fn take_turns(
    sessions: &mut [PgConnection],
    turns: usize,
    turn: fn(&mut PgConnection) -> Result<()>,
) -> Result<f64> {
    let (start, total) = (Barrier::new(sessions.len() + 1), turns * sessions.len());
    thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter_mut()
            .map(|conn| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    (0..turns).try_for_each(|_| turn(conn))
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(started.elapsed().as_secs_f64() / total as f64)
    })
}
