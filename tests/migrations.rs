//! Prioritized migrations.

#[cfg(all(feature = "bb8", feature = "deadpool", feature = "mobc"))]
mod async_harness;
mod audit;
mod differential;
mod history;
mod indexes;
mod instances;
mod locks_first;
mod migration_lock;
mod options;
mod plan;
mod priority;
mod processes;
mod retry;
mod run;
mod session;
mod unsignallable;
mod within_transaction;

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::{
    Migration, MigrationConnection, MigrationMetadata, MigrationName, MigrationSource,
};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::{FileBasedMigrations, HarnessWithOutput, MigrationError, MigrationHarness};
use diesel_pglock::prelude::*;
use diesel_pglock::{
    Backoff, Error, HarnessReport, MIGRATIONS, MigrationEvent, MigrationReport, PrioritizedHarness,
    Prioritizer, TableLockMode,
};

use crate::support::*;
const TICK: Duration = Duration::from_millis(10);

const LONG: Duration = Duration::from_secs(60);

/// A directory of migrations, removed when the value is dropped.
struct Migrations(PathBuf);

impl Migrations {
    /// Writes a migration for each `up.sql`; `-- concurrently` at its start puts it outside a
    /// transaction.
    fn new(db: &Database, ups: &[&str]) -> Self {
        let path = std::env::temp_dir().join(format!("pglock_{}_{}", std::process::id(), db.name));
        for (i, up) in ups.iter().enumerate() {
            let folder = path.join(format!("2026-01-0{}-000000_step", i + 1));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("up.sql"), up).unwrap();
            std::fs::write(folder.join("down.sql"), "SELECT 'down'").unwrap();
            let toml = format!(
                "run_in_transaction = {}",
                !up.starts_with("-- concurrently")
            );
            std::fs::write(folder.join("metadata.toml"), toml).unwrap();
        }
        Self(path)
    }

    fn source(&self) -> FileBasedMigrations {
        FileBasedMigrations::from_path(&self.0).unwrap()
    }
}

impl Drop for Migrations {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns a prioritizer that signals blockers in its first poll.
fn at_once(db: &Database) -> Prioritizer<String> {
    Prioritizer::new(db.url.clone())
        .interval(TICK)
        .grace(Duration::ZERO)
}

/// Returns a prioritizer that polls and signals no session.
fn patient(db: &Database) -> Prioritizer<String> {
    at_once(db).spare(|_| true)
}

/// Returns a harness whose statements time out before its watcher polls.
fn unwatched<'c, C>(conn: &'c mut C, db: &Database) -> PrioritizedHarness<'c, C, String> {
    PrioritizedHarness::new(conn, patient(db).interval(LONG))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none())
}

fn applied(db: &Database) -> i64 {
    count(
        &mut db.connect(),
        "SELECT count(*) FROM __diesel_schema_migrations",
    )
}

fn advisory_locks(db: &Database) -> i64 {
    crate::support::advisory_locks(&mut db.connect())
}

fn run(db: &Database, migrations: &Migrations, prioritizer: Prioritizer<String>) -> HarnessReport {
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer);
    harness.run_pending_migrations(migrations.source()).unwrap();
    harness.report()
}

const RECORD: &str = "INSERT INTO public.ledger VALUES (1)";
