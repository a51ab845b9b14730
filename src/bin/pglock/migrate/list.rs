//! `pglock migrate pending`, `status` and `list`: migrations, and which are applied.

use std::collections::BTreeMap;

use diesel::PgConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use diesel_pglock::prelude::*;
use diesel_pglock::{MIGRATIONS, MigrationEvent, PrioritizedHarness};
use serde::Serialize;

use super::command::{Action, MigrateArgs, failure};
use super::interrupt::Interrupt;
use crate::connect::Database;
use crate::failure::{Failure, Outcome};
use crate::output::{clean, note, show, show_json};

/// A migration, and true if its version is applied.
#[derive(Debug, Serialize)]
struct Listed {
    /// The version alone if there is no directory for it.
    name: String,
    applied: bool,
    state: State,
}

/// The state of a migration, by the history and the directory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Applied,
    Pending,
    /// Applied, and not in the directory.
    Missing,
    /// Never run: a later one has the same version.
    Skipped,
    /// One of several with an applied version. The history has no names.
    Ambiguous,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl Listed {
    /// Returns the line of `diesel migration list`, with the state where that list has none.
    fn line_of_diesel(&self, name: &str) -> String {
        let mark = if self.applied { 'X' } else { ' ' };
        match self.state {
            State::Applied | State::Pending => format!("  [{mark}] {name}\n"),
            state => format!("  [{mark}] {name} ({})\n", state.text()),
        }
    }
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
        let mut listed = listed(source, applied)?;
        listed.retain(|it| self.action != Action::Pending || it.state == State::Pending);
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
        let width = listed.iter().map(|it| it.state.text().len()).max();
        let width = width.unwrap_or_default();
        let line = |it: &Listed| match (self.action, clean(&it.name)) {
            (Action::Status, name) => format!("{:<width$}  {name}\n", it.state.text()),
            (Action::List, name) => it.line_of_diesel(&name),
            (_, name) => format!("{name}\n"),
        };
        let header = match self.action {
            Action::List => "Migrations:\n",
            _ => "",
        };
        header.to_owned() + &listed.iter().map(line).collect::<String>()
    }
}

/// The names of the migrations with one version, in their order.
type Names = BTreeMap<MigrationVersion<'static>, Vec<String>>;

/// Returns the migrations of the directory and of the history, in the order of their versions.
fn listed(
    source: &FileBasedMigrations,
    applied: Vec<MigrationVersion<'static>>,
) -> Result<Vec<Listed>, Failure> {
    let mut names = names(source)?;
    let own = self::names(&MIGRATIONS)?;
    for version in &applied {
        // The crate's own migrations are in no directory.
        let own = own.get(version).cloned().unwrap_or_default();
        names.entry(version.as_owned()).or_insert(own);
    }
    let listed = names.into_iter().flat_map(|(version, names)| {
        let applied = applied.contains(&version);
        listed_with_version(&version, names, applied)
    });
    Ok(listed.collect())
}

fn names(source: &impl MigrationSource<Pg>) -> Result<Names, Failure> {
    let migrations: Vec<Box<dyn Migration<Pg>>> = source.migrations().map_err(failure)?;
    let mut names = Names::new();
    for migration in &migrations {
        let version = migration.name().version().as_owned();
        let with_version = names.entry(version).or_default();
        with_version.push(migration.name().to_string());
        with_version.sort_unstable();
    }
    Ok(names)
}

fn listed_with_version(
    version: &MigrationVersion<'_>,
    names: Vec<String>,
    applied: bool,
) -> Vec<Listed> {
    let listed = |name, state| Listed {
        name,
        applied,
        state,
    };
    let last = names.len().saturating_sub(1);
    if names.is_empty() {
        return vec![listed(version.to_string(), State::Missing)];
    }
    let names = names.into_iter().enumerate();
    let listed = names.map(|(i, name)| match (applied, last, i) {
        (true, 0, _) => listed(name, State::Applied),
        (true, _, _) => listed(name, State::Ambiguous),
        (false, last, i) if i == last => listed(name, State::Pending),
        (false, _, _) => listed(name, State::Skipped),
    });
    listed.collect()
}
