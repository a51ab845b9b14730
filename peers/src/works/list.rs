//! Lists of locks, with their relations and sessions.

use diesel::connection::SimpleConnection;
use diesel::{PgConnection, RunQueryDsl};
use diesel_pglock::PgLock;

use super::support::{LockRow, locks_by_hand};
use crate::Result;
use crate::bench::Bench;
use crate::check;
use crate::contest::{Contest, Peer, Race, per_call};
use crate::figures::{Spread, growth};
use crate::row::{Figure, Row};
use crate::work::Work;

pub const WORK: Work = Work {
    name: "list",
    summary: "`PgLock::query()` with 10,000 and 100,000 locks",
    has_free_targets: false,
    run,
};

/// The sessions that hold the locks.
const HOLDERS: usize = 10;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (small, large) = (10_000, bench.pick(100_000, 30_000));
    let few = race(bench, small, bench.rounds(), 2.5)?;
    let many = race(bench, large, bench.pick(9, 3), 3.1)?;
    let exponent = growth((small as f64, few.least()), (large as f64, many.least()));
    let title = format!("list from {small} to {large} locks");
    let growth = Row::new(title, Figure::Growth, Spread::exact(exponent), 1).at_most(1.05);
    let rows = few.into_rows().into_iter().chain(many.into_rows());
    Ok(rows.chain([growth]).collect())
}

fn race(bench: &Bench, locks: usize, rounds: usize, gap: f64) -> Result<Race> {
    let holders = hold(bench, locks)?;
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || {
        per_call(1, || {
            complete(PgLock::query().load::<PgLock>(&mut conn)?.len(), locks)
        })
    };
    let mut contest = Contest::new(format!("list of {locks} locks"), ours);
    let by_hand = || {
        let query = || locks_by_hand(bench.version());
        per_call(1, || {
            complete(query().load::<LockRow>(&mut plain)?.len(), locks)
        })
    };
    contest.add(
        Peer::time("25 columns by hand", by_hand)
            .at_most(1.3)
            .known_gap(gap),
    );
    let race = contest.run(rounds)?;
    drop(holders);
    Ok(race)
}

/// The query that each holder shows: longer than a line, as those of applications are.
const SHOWN: &str = "SELECT id, customer_id, status, total, currency, created_at, updated_at \
    FROM orders WHERE customer_id = 4711 AND status IN ('open', 'paid', 'shipped') \
    AND created_at > now() - interval '90 days' ORDER BY created_at DESC LIMIT 50 -- list of orders";

/// Opens sessions that hold so many locks together: half of them on tables, in three modes.
fn hold(bench: &Bench, locks: usize) -> Result<Vec<PgConnection>> {
    let tables = locks / HOLDERS / 2 / 3;
    let keys = locks / HOLDERS - 3 * tables;
    bench.connect()?.batch_execute(&format!(
        "CREATE TABLE IF NOT EXISTS orders (id int, customer_id int, status text, total int, \
         currency text, created_at timestamptz, updated_at timestamptz); \
         {}",
        for_each_table(tables, "CREATE TABLE IF NOT EXISTS listed_%s (id int)")
    ))?;
    let holder = |number: usize| {
        let mut conn = bench.connect()?;
        conn.batch_execute("BEGIN")?;
        for mode in ["ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"] {
            conn.batch_execute(&for_each_table(
                tables,
                &format!("LOCK TABLE listed_%s IN {mode} MODE"),
            ))?;
        }
        let (first, last) = (number * keys + 1, (number + 1) * keys);
        conn.batch_execute(&format!(
            "SELECT count(pg_advisory_lock(i)) FROM generate_series({first}, {last}) i"
        ))?;
        conn.batch_execute(SHOWN)?;
        Ok(conn)
    };
    (0..HOLDERS).map(holder).collect()
}

fn for_each_table(tables: usize, statement: &str) -> String {
    format!(
        "DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('{statement}', i); END LOOP; END $$"
    )
}

fn complete(listed: usize, held: usize) -> Result<()> {
    check(listed >= held, || {
        format!("{listed} of {held} locks were listed")
    })
}
