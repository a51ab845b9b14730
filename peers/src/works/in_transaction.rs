//! Advisory locks of the session, within a transaction.

use diesel::{Connection, PgConnection};
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::{Contest, per_call};
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
    let ours = || per_call(transactions, || Ok(conn.transaction(acquire_and_release)?));
    let title = format!("{LOCKS} advisory locks in turn within a transaction, sync");
    let mut contest = Contest::new(title, ours);
    let pgbench = |lock| bench.pgbench(script(lock), transactions);
    contest.add(pgbench(PLAIN).map(|peer| peer.at_least(0.5).known_gap(0.46)));
    contest.add(pgbench(WITH_SAVEPOINT).map(|peer| peer.named("pgbench, with a savepoint each")));
    Ok(contest.run(bench.rounds())?.into_rows())
}

fn acquire_and_release(conn: &mut PgConnection) -> diesel_pglock::Result<()> {
    (0..LOCKS).try_for_each(|_| conn.advisory(KEY).acquire()?.release())
}

fn script(lock: &str) -> String {
    format!("BEGIN;\n{}COMMIT;\n", lock.repeat(LOCKS))
}
