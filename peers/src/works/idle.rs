//! A prioritizer that finds nothing to do.

use std::time::Duration;

use diesel::sql_types::Integer;
use diesel::{PgConnection, RunQueryDsl};
use diesel_pglock::Prioritizer;
use diesel_pglock::prelude::*;

use crate::Result;
use crate::bench::Bench;
use crate::contest::{Contest, per_call};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;

pub const WORK: Work = Work {
    name: "idle",
    summary: "20,000 statements under a prioritizer that nothing blocks",
    has_free_targets: false,
    run,
};

diesel::define_sql_function! { fn abs(number: Integer) -> Integer; }

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let statements = bench.pick(20_000, 5_000);
    let prioritizer = Prioritizer::new(bench.url.clone()).interval(Duration::from_millis(100));
    let (mut conn, mut plain) = (bench.connect()?, bench.connect()?);
    let ours = || conn.prioritize(&prioritizer, |conn| work(conn, statements));
    let title = format!("prioritizer that nothing blocks, {statements} statements");
    let mut contest = Contest::new(title, ours);
    let without = || work(&mut plain, statements);
    contest.add(
        Peer::time("no prioritizer", without)
            .with_confidence()
            .at_most(1.02),
    );
    Ok(contest.run(bench.pick(41, 7))?.into_rows())
}

fn work(conn: &mut PgConnection, statements: usize) -> Result<f64> {
    per_call(statements, || {
        diesel::select(abs(-1)).get_result::<i32>(conn)?;
        Ok(())
    })
}
