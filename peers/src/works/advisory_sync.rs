//! Advisory locks on sync connections.

use diesel::sql_types::BigInt;
use diesel::{RunQueryDsl, sql_query};
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Peer, per_call};
use crate::row::Row;
use crate::work::Work;

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
    let (mut conn, mut typed, mut raw) = (bench.connect()?, bench.connect()?, bench.connect()?);
    let ours = || per_call(calls, || Ok(conn.advisory(KEY).acquire()?.release()?));
    let mut contest = Contest::new("advisory lock, sync", ours);
    if let Some(pgbench) = &bench.pgbench {
        let sample = || pgbench.sample(&bench.url, SCRIPT, calls);
        contest.add(
            Peer::speed("pgbench -M prepared", sample)
                .at_least(0.97)
                .known_gap(0.93),
        );
    }
    let sample = || {
        per_call(calls, || {
            diesel::select(pg_advisory_lock(KEY)).execute(&mut typed)?;
            let query = diesel::select(pg_advisory_unlock(KEY));
            check(query.get_result(&mut typed)?, || "not held".to_owned())
        })
    };
    contest.add(Peer::speed("Diesel, typed query", sample).at_least(0.97));
    let sample = || {
        per_call(calls, || {
            for function in ["pg_advisory_lock", "pg_advisory_unlock"] {
                sql_query(format!("SELECT {function}($1)"))
                    .bind::<BigInt, _>(KEY)
                    .execute(&mut raw)?;
            }
            Ok(())
        })
    };
    contest.add(Peer::speed("Diesel, `sql_query`", sample).at_least(0.97));
    if let Some(mut django) = bench.django()? {
        let sample = move || django.sample("advisory", calls / 4);
        contest.add(Peer::speed("django-pglock", sample).at_least(1.0));
    }
    Ok(contest.run(bench.rounds())?.into_rows())
}
