//! The options of `pglock migrate`, and its runs.

use std::error::Error;

use clap::{Args, ValueEnum};
use diesel::PgConnection;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use diesel_pglock::internal::with_sources;
use diesel_pglock::prelude::*;
use diesel_pglock::{HarnessReport, MIGRATIONS, MigrationEvent, PrioritizedHarness};
use serde::Serialize;

use super::directory::DirectoryArgs;
use super::interrupt::Interrupt;
use super::metadata::exceptions;
use super::plan::PlanArgs;
use super::priority::PriorityArgs;
use super::progress::Progress;
use super::redo::{Number, is_nothing_to_revert, redo, revert};
use super::summary::summary;
use crate::connect::{ConnectionArgs, Database, Environment, Settings, refuse_pooler};
use crate::failure::{Failure, Outcome};
use crate::output::{Screen, show, show_json};

pub type Harness<'c> = PrioritizedHarness<'c, PgConnection, String>;

const POOLER: &str = "a pooler in transaction mode is between `pglock` and the server; there the \
    migration lock and the lock timeout would stay in sessions of other clients, and the watcher \
    would terminate sessions that block another client; connect to the server directly";

pub type BoxedError = Box<dyn Error + Send + Sync>;

/// The options of `pglock migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// Runs, reverts or lists migrations
    #[arg(value_enum, default_value_t = Action::Run)]
    pub(super) action: Action,
    #[command(flatten)]
    directory: DirectoryArgs,
    /// Reverts, or redoes, all migrations, not only the last
    #[arg(short, long, conflicts_with = "number")]
    all: bool,
    /// Reverts, or redoes, this number of migrations
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    number: Option<u32>,
    #[command(flatten)]
    pub(super) priority: PriorityArgs,
    /// Shows the report or the list as JSON, without progress
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) plan: PlanArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Runs the pending migrations
    Run,
    /// Reverts the last migration
    Revert,
    /// Reverts the last migration, and runs it again
    Redo,
    /// Lists the pending migrations
    Pending,
    /// Lists all migrations, and which are applied
    Status,
    /// Shows what the pending migrations would lock, rewrite and block
    Plan,
    /// Lists all migrations as `diesel migration list` does
    List,
    /// Makes the table `pglock.signal_log`, for `--audit`
    Install,
}

/// Runs `pglock migrate`.
pub fn run(
    args: &MigrateArgs,
    connect: &ConnectionArgs,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let is_counted = args.all || args.number.is_some();
    if is_counted && !matches!(args.action, Action::Revert | Action::Redo) {
        let text = "`--all` and `--number` need `revert` or `redo`";
        return Err(Failure::Usage(text.to_owned()));
    }
    args.plan.check(args.action == Action::Plan)?;
    let work = args.work()?;
    let settings = Settings::find()?;
    let database = connect.database(&settings, environment)?;
    let mut conn = database.connect()?;
    match work {
        Work::List(source) => args.list(&mut conn, &database, &source),
        Work::Plan(source) => args.show_plan(&mut conn, &database, &source),
        Work::Migrate(source) => args.migrate(&mut conn, &database, source.as_ref()),
    }
}

/// The work of a command with the migrations of a directory.
enum Work {
    List(FileBasedMigrations),
    Plan(FileBasedMigrations),
    /// Without a directory it runs the crate's own.
    Migrate(Option<FileBasedMigrations>),
}

impl MigrateArgs {
    fn work(&self) -> Result<Work, Failure> {
        Ok(match self.action {
            Action::Pending | Action::Status | Action::List => Work::List(self.directory.source()?),
            Action::Plan => Work::Plan(self.directory.source()?),
            Action::Run | Action::Revert | Action::Redo => {
                Work::Migrate(Some(self.directory.source()?))
            }
            Action::Install => Work::Migrate(None),
        })
    }

    fn number(&self) -> Number {
        if self.all {
            Number::All
        } else {
            Number::Last(self.number.unwrap_or(1))
        }
    }

    /// Runs or reverts migrations, with progress and a summary.
    fn migrate(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: Option<&FileBasedMigrations>,
    ) -> Result<Outcome, Failure> {
        let exceptions = source.map(exceptions).transpose()?.unwrap_or_default();
        refuse_pooler(conn, database, POOLER)?;
        let pid = conn.backend_pid()?;
        let interrupt = Interrupt::catch(pid, database)?;
        let progress = (!self.json).then(|| Progress::start(&Screen::of_stdout(), pid));
        let mut harness = self.harness(conn, database, &interrupt, progress.as_ref());
        for exception in exceptions {
            harness = harness.for_migration(&exception.name, |it| exception.apply(it));
        }
        let result = self.run_harness(&mut harness, source);
        let report = harness.report();
        drop(progress);
        let had_lock = result.as_ref().err().is_none_or(is_nothing_to_revert);
        let outcome = match result {
            Err(_) if interrupt.happened() => Err(Failure::Interrupted),
            Err(error) if is_nothing_to_revert(&error) => Ok(Outcome::Nothing),
            Err(error) => Err(failure(error)),
            Ok(()) => Ok(Outcome::Done),
        };
        let error = outcome.as_ref().err();
        let shown = self.show_report(&report, pid, error, had_lock);
        outcome.and_then(|outcome| shown.map(|()| outcome))
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
        source: Option<&FileBasedMigrations>,
    ) -> Result<(), BoxedError> {
        let Some(source) = source else {
            return harness.run_pending_migrations(MIGRATIONS).map(drop);
        };
        match self.action {
            Action::Revert => revert(harness, source, self.number()).map(drop),
            Action::Redo => redo(harness, source, self.number()),
            _ => harness.run_pending_migrations(source.clone()).map(drop),
        }
    }

    fn show_report(
        &self,
        report: &HarnessReport,
        pid: i32,
        error: Option<&Failure>,
        had_lock: bool,
    ) -> Result<(), Failure> {
        if self.json {
            let error = error.map(ToString::to_string);
            return show_json(&JsonReport { pid, error, report });
        }
        // Without the migration lock it is unknown whether there was something to do.
        if had_lock || !report.migrations.is_empty() {
            show(&summary(report, self.action))?;
        }
        Ok(())
    }
}

/// The report of a run, with its session and its error.
#[derive(Serialize)]
struct JsonReport<'r> {
    pid: i32,
    error: Option<String>,
    #[serde(flatten)]
    report: &'r HarnessReport,
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
