//! Advisory locks of the session, within a transaction.

use diesel::Connection;
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::{Contest, Peer, per_call};
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "in-transaction",
    summary: "an advisory lock, acquired and released within a transaction",
    has_free_targets: false,
    run,
};

const KEY: i64 = 8;

/// The locks of a transaction, so that its start and end hardly count.
const LOCKS: usize = 20;

const PLAIN: &str = "SELECT pg_advisory_lock(8);\nSELECT pg_advisory_unlock(8);\n";

const WITH_SAVEPOINT: &str =
    "SAVEPOINT s;\nSELECT pg_advisory_lock(8);\nRELEASE s;\nSELECT pg_advisory_unlock(8);\n";

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let transactions = bench.pick(200, 50);
    let mut conn = bench.connect()?;
    let ours = || {
        per_lock(transactions, || {
            conn.transaction(|conn| {
                (0..LOCKS).try_for_each(|_| conn.advisory(KEY).acquire()?.release())
            })
            .map_err(Into::into)
        })
    };
    let mut contest = Contest::new("advisory lock within a transaction, sync", ours);
    if let Some(pgbench) = &bench.pgbench {
        let script = |lock: &str| format!("BEGIN;\n{}COMMIT;\n", lock.repeat(LOCKS));
        let (plain, with_savepoint) = (script(PLAIN), script(WITH_SAVEPOINT));
        let sample = move |script: &str| {
            Ok(pgbench.sample(&bench.url, script, transactions)? / LOCKS as f64)
        };
        contest.add(
            Peer::speed("pgbench -M prepared", move || sample(&plain))
                .at_least(0.5)
                .known_gap(0.355),
        );
        contest.add(Peer::speed("the same with a savepoint", move || {
            sample(&with_savepoint)
        }));
    }
    Ok(contest.run(bench.rounds())?.into_rows())
}

fn per_lock(transactions: usize, run: impl FnMut() -> Result<()>) -> Result<f64> {
    Ok(per_call(transactions, run)? / LOCKS as f64)
}
