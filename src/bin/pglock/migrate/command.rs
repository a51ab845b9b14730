//! The options of `pglock migrate`, and its runs.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use diesel::PgConnection;
use diesel_migrations::{FileBasedMigrations, MigrationError, MigrationHarness};
use diesel_pglock::internal::with_sources;
use diesel_pglock::prelude::*;
use diesel_pglock::{HarnessReport, MigrationEvent, PrioritizedHarness};

use super::interrupt::Interrupt;
use super::metadata::exceptions;
use super::pooler::refuse_pooler;
use super::priority::PriorityArgs;
use super::progress::Progress;
use super::summary::summary;
use crate::connect::{ConnectionArgs, Database, Environment, Settings};
use crate::failure::{Failure, Outcome};
use crate::output::{Screen, show, show_json};

type Harness<'c> = PrioritizedHarness<'c, PgConnection, String>;

type BoxedError = Box<dyn Error + Send + Sync>;

/// The options of `pglock migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// Runs, reverts or lists migrations
    #[arg(value_enum, default_value_t = Action::Run)]
    pub(super) action: Action,
    /// The directory; default: the nearest `migrations`, from the working directory upward
    #[arg(long, value_name = "DIR")]
    migrations: Option<PathBuf>,
    /// Reverts all migrations, not only the last
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(super) priority: PriorityArgs,
    /// Shows the report or the list as JSON, without progress
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Runs the pending migrations
    Run,
    /// Reverts the last migration
    Revert,
    /// Lists the pending migrations
    Pending,
    /// Lists all migrations, and which are applied
    Status,
}

/// Runs `pglock migrate`.
pub fn run(
    args: &MigrateArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    if args.all && args.action != Action::Revert {
        return Err(Failure::Usage("`--all` needs `revert`".to_owned()));
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

    /// Runs or reverts migrations, with progress and a summary.
    fn migrate(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: FileBasedMigrations,
    ) -> Result<Outcome, Failure> {
        let exceptions = exceptions(&source)?;
        refuse_pooler(conn, database)?;
        let interrupt = Interrupt::catch(conn.backend_pid()?, database)?;
        let progress = (!self.json).then(|| Progress::start(&Screen::of_stdout()));
        let mut harness = self.harness(conn, database, &interrupt, progress.as_ref());
        for exception in exceptions {
            harness = harness.for_migration(&exception.name, |it| exception.apply(it));
        }
        let result = self.run_harness(&mut harness, source);
        let report = harness.report();
        drop(progress);
        let shown = self.show_report(&report, &result);
        match result {
            Err(_) if interrupt.happened() => Err(Failure::Interrupted),
            Err(error) if is_nothing_to_revert(&error) => Ok(Outcome::Nothing),
            Err(error) => Err(failure(error)),
            Ok(()) => shown.map(|()| Outcome::Done),
        }
    }

    fn harness<'c>(
        &self,
        conn: &'c mut PgConnection,
        database: &Database,
        interrupt: &Interrupt,
        progress: Option<&Progress>,
    ) -> Harness<'c> {
        let interrupt = interrupt.clone();
        let writer = progress.map(Progress::writer);
        let prioritizer = self.priority.prioritizer(database.source());
        let harness = PrioritizedHarness::new(conn, prioritizer).on_event(move |event| {
            interrupt.set_idle(matches!(event, MigrationEvent::WaitingForInstance(_)));
            if let Some(writer) = &writer {
                writer.emit(event);
            }
        });
        self.priority.harness(harness)
    }

    fn run_harness(
        &self,
        harness: &mut Harness<'_>,
        source: FileBasedMigrations,
    ) -> Result<(), BoxedError> {
        match (self.action, self.all) {
            (Action::Revert, true) => harness.revert_all_migrations(source).map(drop),
            (Action::Revert, false) => harness.revert_last_migration(source).map(drop),
            _ => harness.run_pending_migrations(source).map(drop),
        }
    }

    fn show_report(
        &self,
        report: &HarnessReport,
        result: &Result<(), BoxedError>,
    ) -> Result<(), Failure> {
        if self.json {
            return show_json(report);
        }
        // Without the migration lock it is unknown whether there was something to do.
        let had_lock = result.as_ref().err().is_none_or(is_nothing_to_revert);
        if had_lock || !report.migrations.is_empty() {
            show(&summary(report, self.action == Action::Revert))?;
        }
        Ok(())
    }
}

fn is_nothing_to_revert(error: &BoxedError) -> bool {
    matches!(error.downcast_ref(), Some(MigrationError::NoMigrationRun))
}

/// Returns the failure of the command for an error of the harness.
pub fn failure(error: BoxedError) -> Failure {
    match error.downcast::<diesel_pglock::Error>() {
        Ok(own) => (*own).into(),
        Err(other) => match other.downcast::<diesel::result::Error>() {
            Ok(own) => diesel_pglock::Error::from(*own).into(),
            Err(other) => Failure::Failed(with_sources(other.as_ref())),
        },
    }
}
