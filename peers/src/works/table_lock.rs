//! Table locks in a transaction of their own.

use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_pglock::prelude::*;
use diesel_pglock::{TableLock, TableLockMode};

use crate::Result;
use crate::bench::Bench;
use crate::contest::{Contest, Race, per_call};
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "table-lock",
    summary: "a table lock in its own transaction, without and with a timeout",
    has_free_targets: false,
    run,
};

diesel::table! {
    accounts { id -> Integer, }
}

const PLAIN: &str = "BEGIN;\nLOCK TABLE accounts IN SHARE MODE;\nCOMMIT;\n";

const WITH_TIMEOUT: &str =
    "BEGIN;\nSET LOCAL lock_timeout = 2000;\nLOCK TABLE accounts IN SHARE MODE;\nCOMMIT;\n";

const TIMEOUT: Duration = Duration::from_secs(2);

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let create = "CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY)";
    bench.connect()?.batch_execute(create)?;
    let rows = without_timeout(bench)?.into_rows().into_iter();
    Ok(rows.chain(with_timeout(bench)?.into_rows()).collect())
}

fn without_timeout(bench: &Bench) -> Result<Race> {
    let calls = calls(bench);
    let mut conn = bench.connect()?;
    let ours = || per_call(calls, || Ok(lock(&mut conn).run(|_| nothing())?));
    let mut contest = Contest::new("table lock", ours);
    let pgbench = bench.pgbench(PLAIN.to_owned(), calls);
    contest.add(pgbench.map(|peer| peer.at_least(0.87).known_gap(0.42)));
    contest.run(bench.rounds())
}

fn with_timeout(bench: &Bench) -> Result<Race> {
    let calls = calls(bench);
    let mut conn = bench.connect()?;
    let ours = || {
        per_call(calls, || {
            Ok(lock(&mut conn).timeout(TIMEOUT).run(|_| nothing())?)
        })
    };
    let mut contest = Contest::new("table lock with a timeout", ours);
    let least = if bench.version() >= 18 { 0.75 } else { 0.8 };
    let pgbench = bench.pgbench(WITH_TIMEOUT.to_owned(), calls);
    contest.add(pgbench.map(|peer| peer.at_least(least).known_gap(0.27)));
    let django = bench.django("table_lock", calls)?;
    contest.add(django.map(|peer| peer.at_least(1.0)));
    contest.run(bench.rounds())
}

fn calls(bench: &Bench) -> usize {
    bench.pick(500, 200)
}

fn lock(conn: &mut PgConnection) -> TableLock<'_, PgConnection> {
    conn.lock_table::<accounts::table>(TableLockMode::Share)
}

fn nothing() -> diesel_pglock::Result<()> {
    Ok(())
}
