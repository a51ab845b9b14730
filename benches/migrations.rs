//! Measures many empty migrations beside Diesel's own harness: `cargo xtask bench`.
//!
//! Prints the milliseconds of both harnesses, in turns, on a throwaway server that is idle.

#![allow(clippy::print_stdout)] // prints its results

use std::time::{Duration, Instant};

use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::{
    Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result,
};
use diesel::pg::Pg;
use diesel::{Connection, PgConnection};
use diesel_migrations::MigrationHarness;
use diesel_pglock::{PrioritizedHarness, Prioritizer};
use pglock_sandbox::Sandbox;

/// The migrations of a run.
const MIGRATIONS: usize = 300;

/// The runs of each harness.
const ROUNDS: usize = 9;

fn main() {
    let server = Sandbox::builder().start().expect("a throwaway server");
    let url = server.url();
    let (mut stock, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        stock.push(measure(&url, run));
        ours.push(measure(&url, |conn| {
            run(&mut PrioritizedHarness::new(
                conn,
                Prioritizer::new(url.clone()),
            ));
        }));
    }
    let (stock, ours) = (median(stock), median(ours));
    let limit = stock * 1.5 + 100.0;
    println!(
        "{MIGRATIONS} empty migrations: Diesel {stock:.0} ms, prioritized {ours:.0} ms ({:.2} times; limit {limit:.0} ms)",
        ours / stock
    );
}

fn run(harness: &mut impl MigrationHarness<Pg>) {
    let done = harness.run_pending_migrations(EmptyMigrations);
    assert_eq!(done.expect("the migrations").len(), MIGRATIONS);
}

/// Measures a run without a history.
fn measure(url: &str, run: impl FnOnce(&mut PgConnection)) -> Duration {
    let mut conn = PgConnection::establish(url).expect("a session");
    conn.batch_execute("DROP TABLE IF EXISTS __diesel_schema_migrations")
        .expect("no history");
    let started = Instant::now();
    run(&mut conn);
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

struct EmptyMigrations;

impl MigrationSource<Pg> for EmptyMigrations {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        let migrations = (0..MIGRATIONS).map(|i| Box::new(EmptyMigration::new(i)) as _);
        Ok(migrations.collect())
    }
}

struct EmptyMigration(String);

impl EmptyMigration {
    fn new(number: usize) -> Self {
        Self(format!("{number:04}"))
    }
}

impl Migration<Pg> for EmptyMigration {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(conn.batch_execute("SELECT 1")?)
    }

    fn revert(&self, _conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for EmptyMigration {}

impl MigrationName for EmptyMigration {
    fn version(&self) -> MigrationVersion<'_> {
        self.0.as_str().into()
    }
}

impl std::fmt::Display for EmptyMigration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
