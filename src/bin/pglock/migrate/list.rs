//! `pglock migrate pending` and `status`: migrations, and which are applied.

use diesel::PgConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use diesel_pglock::prelude::*;
use diesel_pglock::{MigrationEvent, PrioritizedHarness};
use serde::Serialize;

use super::command::{Action, MigrateArgs, failure};
use super::interrupt::Interrupt;
use crate::connect::Database;
use crate::failure::{Failure, Outcome};
use crate::output::{clean, note, show, show_json};

/// A migration, and true if it is applied.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    applied: bool,
}

impl MigrateArgs {
    /// Lists the pending migrations, or all.
    pub fn list(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<Outcome, Failure> {
        let applied = self.applied(conn, database)?;
        let mut listed = listed(source, &applied)?;
        listed.retain(|it| self.action == Action::Status || !it.applied);
        if self.json {
            show_json(&listed)?;
        } else {
            show(&self.lines(&listed))?;
        }
        Ok(Outcome::of_found(listed.len()))
    }

    fn applied(
        &self,
        conn: &mut PgConnection,
        database: &Database,
    ) -> Result<Vec<MigrationVersion<'static>>, Failure> {
        let interrupt = Interrupt::catch(conn.backend_pid()?, database)?;
        let prioritizer = self.priority.prioritizer(database.source());
        let harness = PrioritizedHarness::new(conn, prioritizer).on_event(|event| {
            if let MigrationEvent::ReadingHistory { .. } = event {
                // The list needs no reader of this note.
                let _ = note("waiting for the history of migrations\n");
            }
        });
        let applied = self.priority.harness(harness).applied_migrations();
        applied.map_err(|error| {
            if interrupt.happened() {
                Failure::Interrupted
            } else {
                failure(error)
            }
        })
    }

    fn lines(&self, listed: &[Listed]) -> String {
        let line = |it: &Listed| {
            let name = clean(&it.name);
            match (self.action, it.applied) {
                (Action::Status, true) => format!("applied  {name}\n"),
                (Action::Status, false) => format!("pending  {name}\n"),
                _ => format!("{name}\n"),
            }
        };
        listed.iter().map(line).collect()
    }
}

/// Returns the migrations of the directory, in the order of their versions.
fn listed(
    source: &FileBasedMigrations,
    applied: &[MigrationVersion<'static>],
) -> Result<Vec<Listed>, Failure> {
    let mut migrations: Vec<Box<dyn Migration<Pg>>> = source.migrations().map_err(failure)?;
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    let listed = migrations.iter().map(|migration| Listed {
        name: migration.name().to_string(),
        applied: applied.contains(&migration.name().version()),
    });
    Ok(listed.collect())
}
