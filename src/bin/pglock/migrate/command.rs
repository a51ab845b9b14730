//! `pglock migrate`.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use diesel::PgConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel_migrations::{FileBasedMigrations, MigrationError, MigrationHarness};
use diesel_pglock::prelude::*;
use diesel_pglock::{MigrationEvent, PrioritizedHarness};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::priority::PriorityArgs;
use super::progress::{Progress, summary};
use crate::connect::Settings;
use crate::connect::{ConnectionArgs, Database, Environment};
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::show_json;
use crate::output::{Screen, note, show};
use diesel_pglock::internal::with_sources;

/// What to do with a directory of migrations.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// What to do
    #[arg(value_enum, default_value_t = Action::Run)]
    action: Action,
    /// The directory; unless said the nearest `migrations`, from the working directory upward
    #[arg(long, value_name = "DIR")]
    migrations: Option<PathBuf>,
    /// Reverts all migrations rather than the last
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    priority: PriorityArgs,
    /// Shows the report, or the list, as JSON at the end, and no progress
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Runs the pending migrations
    Run,
    /// Reverts the last migration
    Revert,
    /// Lists the pending migrations
    Pending,
    /// Lists all migrations, and which are applied
    Status,
}

/// A migration, and whether it is applied.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    applied: bool,
}

type Migrations = Vec<Box<dyn Migration<Pg>>>;

pub fn run(
    args: &MigrateArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    if args.all && args.action != Action::Revert {
        return Err(Failure::Usage("--all is there with `revert`".to_owned()));
    }
    let source = args.source()?;
    let settings = Settings::find()?;
    let database = connect.database(&settings, environment)?;
    let mut conn = database.connect()?;
    match args.action {
        Action::Pending | Action::Status => args.list(&mut conn, &database, &source),
        Action::Run | Action::Revert => args.migrate(&mut conn, &database, source),
    }
}

impl MigrateArgs {
    fn source(&self) -> Result<FileBasedMigrations, Failure> {
        let found = match &self.migrations {
            Some(path) => FileBasedMigrations::from_path(path),
            None => FileBasedMigrations::find_migrations_directory(),
        };
        found.map_err(|error| Failure::Usage(format!("the migrations: {error}")))
    }

    fn migrate(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: FileBasedMigrations,
    ) -> Result<Outcome, Failure> {
        let interrupt = Interrupt::catch(conn.backend_pid()?, database)?;
        let progress = (!self.json).then(|| Progress::start(&Screen::of_stdout()));
        let teller = progress.as_ref().map(Progress::teller);
        let running = interrupt.clone();
        let prioritizer = self.priority.prioritizer(database.source());
        let harness = PrioritizedHarness::new(conn, prioritizer).on_event(move |event| {
            running.idles(matches!(event, MigrationEvent::WaitingForInstance));
            if let Some(teller) = &teller {
                teller.tell(event);
            }
        });
        let mut harness = self.priority.harness(harness);
        let result = match (self.action, self.all) {
            (Action::Revert, true) => harness.revert_all_migrations(source).map(drop),
            (Action::Revert, false) => harness.revert_last_migration(source).map(drop),
            _ => harness.run_pending_migrations(source).map(drop),
        };
        let report = harness.report();
        drop(progress);
        // One that never had its turn does not know whether there was nothing to do.
        let had_its_turn = match &result {
            Ok(()) => true,
            Err(error) => is_nothing_to_revert(error.as_ref()),
        };
        let is_told = had_its_turn || !report.migrations.is_empty();
        let shown = match self.json {
            true => show_json(&report),
            false if is_told => show(&summary(&report, self.action == Action::Revert)),
            false => Ok(()),
        };
        match result {
            Err(_) if interrupt.happened() => Err(Failure::Interrupted),
            Err(error) if is_nothing_to_revert(error.as_ref()) => Ok(Outcome::Nothing),
            Err(error) => Err(failure(error)),
            Ok(()) => shown.map(|()| Outcome::Done),
        }
    }

    fn list(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<Outcome, Failure> {
        let interrupt = Interrupt::catch(conn.backend_pid()?, database)?;
        let prioritizer = self.priority.prioritizer(database.source());
        let harness = PrioritizedHarness::new(conn, prioritizer).on_event(|event| {
            if let MigrationEvent::ReadingHistory { .. } = event {
                // The list goes on without it.
                let _ = note("waiting for the history of migrations\n");
            }
        });
        let applied = self.priority.harness(harness).applied_migrations();
        let applied = applied.map_err(|error| match interrupt.happened() {
            true => Failure::Interrupted,
            false => failure(error),
        })?;
        let mut migrations: Migrations = source.migrations().map_err(failure)?;
        migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
        let listed = migrations.iter().map(|migration| Listed {
            name: migration.name().to_string(),
            applied: applied.contains(&migration.name().version()),
        });
        let is_shown = |it: &Listed| self.action == Action::Status || !it.applied;
        let listed: Vec<Listed> = listed.filter(is_shown).collect();
        match self.json {
            true => show_json(&listed)?,
            false => show(&self.lines(&listed))?,
        }
        Ok(match listed.is_empty() {
            true => Outcome::Nothing,
            false => Outcome::Done,
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

fn is_nothing_to_revert(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(MigrationError::NoMigrationRun))
}

fn failure(error: Box<dyn Error + Send + Sync>) -> Failure {
    match error.downcast::<diesel_pglock::Error>() {
        Ok(own) => (*own).into(),
        Err(other) => match other.downcast::<diesel::result::Error>() {
            Ok(own) => diesel_pglock::Error::from(*own).into(),
            Err(other) => Failure::Failed(with_sources(other.as_ref())),
        },
    }
}
