//! Advisory locks on sync connections.

use diesel::sql_types::BigInt;
use diesel::{RunQueryDsl, sql_query};
use diesel_pglock::prelude::*;

use crate::bench::Bench;
use crate::contest::{Contest, per_call};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;
use crate::{Result, check};

pub const WORK: Work = Work {
    name: "advisory-sync",
    summary: "an advisory lock, acquired and released",
    has_free_targets: false,
    run,
};

const KEY: i64 = 7;

const SCRIPT: &str = "SELECT pg_advisory_lock(7);\nSELECT pg_advisory_unlock(7);\n";

diesel::define_sql_function! { fn pg_advisory_lock(key: BigInt) -> Nullable<Text>; }
diesel::define_sql_function! { fn pg_advisory_unlock(key: BigInt) -> Bool; }

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let calls = bench.pick(2_000, 1_000);
    let mut conn = bench.connect()?;
    let ours = || per_call(calls, || Ok(conn.advisory(KEY).acquire()?.release()?));
    let mut contest = Contest::new("advisory lock, sync", ours);
    let pgbench = bench.pgbench(SCRIPT.to_owned(), calls);
    contest.add(pgbench.map(|peer| peer.at_least(0.97).known_gap(0.9)));
    contest.add(typed(bench, calls)?.at_least(0.97).known_gap(0.9));
    contest.add(untyped(bench, calls)?.at_least(0.97));
    let django = bench.django("advisory", calls / 4)?;
    contest.add(django.map(|peer| peer.at_least(1.0)));
    Ok(contest.run(bench.rounds())?.into_rows())
}

fn typed(bench: &Bench, calls: usize) -> Result<Peer<'_>> {
    let mut conn = bench.connect()?;
    let mut lock = move || {
        diesel::select(pg_advisory_lock(KEY)).execute(&mut conn)?;
        let was_held = diesel::select(pg_advisory_unlock(KEY)).get_result(&mut conn)?;
        check(was_held, || "the lock was not held".to_owned())
    };
    let sample = move || per_call(calls, &mut lock);
    Ok(Peer::speed("Diesel, typed query", sample))
}

fn untyped(bench: &Bench, calls: usize) -> Result<Peer<'_>> {
    let mut conn = bench.connect()?;
    let mut lock = move || {
        for function in ["pg_advisory_lock", "pg_advisory_unlock"] {
            let query = sql_query(format!("SELECT {function}($1)"));
            query.bind::<BigInt, _>(KEY).execute(&mut conn)?;
        }
        Ok(())
    };
    let sample = move || per_call(calls, &mut lock);
    Ok(Peer::speed("Diesel, `sql_query`", sample))
}
