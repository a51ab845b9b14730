//! Many small migrations, beside Diesel's own harness.

use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::{
    self, Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion,
};
use diesel::pg::Pg;
use diesel::{Connection, PgConnection};
use diesel_migrations::MigrationHarness;
use diesel_pglock::{PrioritizedHarness, Prioritizer};
use pglock_sandbox::Sandbox;

use crate::bench::Bench;
use crate::contest::{Contest, seconds};
use crate::peer::Peer;
use crate::row::Row;
use crate::work::Work;
use crate::{Result, check};

pub const WORK: Work = Work {
    name: "migrations",
    summary: "300 empty migrations",
    has_free_targets: false,
    run,
};

const MIGRATIONS: usize = 300;

/// The seconds that a run may take in addition, however few migrations it has.
const ALLOWANCE: f64 = 0.1;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    // With the settings of PostgreSQL itself: the locks of a server with room for many take long to read.
    let server = Sandbox::start()?;
    let url = server.url();
    let ours = || {
        measure(&url, |conn| {
            let prioritizer = Prioritizer::new(url.clone());
            migrate(&mut PrioritizedHarness::new(conn, prioritizer))
        })
    };
    let title = format!("{MIGRATIONS} empty migrations, 100 ms taken off");
    let mut contest = Contest::new(title, ours);
    let stock = Peer::time("diesel_migrations", || measure(&url, migrate));
    contest.add(stock.allow(ALLOWANCE).at_most(1.5));
    Ok(contest.run(bench.pick(15, 3))?.into_rows())
}

/// Measures a run without a history.
fn measure(url: &str, run: impl Fn(&mut PgConnection) -> Result<()>) -> Result<f64> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute("DROP TABLE IF EXISTS __diesel_schema_migrations")?;
    seconds(|| run(&mut conn))
}

fn migrate(harness: &mut impl MigrationHarness<Pg>) -> Result<()> {
    let done = harness.run_pending_migrations(EmptyMigrations)?;
    check(done.len() == MIGRATIONS, || format!("{} ran", done.len()))
}

struct EmptyMigrations;

impl MigrationSource<Pg> for EmptyMigrations {
    fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
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
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        Ok(conn.batch_execute("SELECT 1")?)
    }

    fn revert(&self, _conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
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
