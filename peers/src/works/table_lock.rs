//! Table locks in a transaction of their own.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel_pglock::TableLockMode;
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::{Contest, Peer, Race, per_call};
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
    let calls = bench.pick(500, 200);
    let mut conn = bench.connect()?;
    let ours = || {
        per_call(calls, || {
            let lock = conn.lock_table::<accounts::table>(TableLockMode::Share);
            Ok(lock.run(|_| diesel_pglock::Result::<_>::Ok(()))?)
        })
    };
    let mut contest = Contest::new("table lock", ours);
    let least = if bench.version() >= 18 { 0.83 } else { 0.87 };
    let pgbench = pgbench(bench, PLAIN, calls);
    contest.add(pgbench.map(|peer| peer.at_least(least).known_gap(0.58)));
    contest.run(bench.rounds())
}

fn with_timeout(bench: &Bench) -> Result<Race> {
    let calls = bench.pick(500, 200);
    let mut conn = bench.connect()?;
    let ours = || {
        per_call(calls, || {
            let lock = conn.lock_table::<accounts::table>(TableLockMode::Share);
            Ok(lock
                .timeout(TIMEOUT)
                .run(|_| diesel_pglock::Result::<_>::Ok(()))?)
        })
    };
    let mut contest = Contest::new("table lock with a timeout", ours);
    let least = if bench.version() >= 18 { 0.75 } else { 0.8 };
    let pgbench = pgbench(bench, WITH_TIMEOUT, calls);
    contest.add(pgbench.map(|peer| peer.at_least(least).known_gap(0.1)));
    if let Some(mut django) = bench.django()? {
        let sample = move || django.sample("table_lock", calls);
        contest.add(
            Peer::speed("django-pglock", sample)
                .at_least(1.0)
                .known_gap(0.4),
        );
    }
    contest.run(bench.rounds())
}

fn pgbench<'a>(bench: &'a Bench, script: &'static str, calls: usize) -> Option<Peer<'a>> {
    let pgbench = bench.pgbench.as_ref()?;
    let sample = move || pgbench.sample(&bench.url, script, calls);
    Some(Peer::speed("pgbench -M prepared", sample))
}
