//! `pglock migrate plan`: what the pending migrations would lock, rewrite and block.

use clap::Args;
use diesel::PgConnection;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use diesel_pglock::internal::cluster_wide_statement;
use diesel_pglock::{MigrationPlan, PrioritizedHarness};
use serde::Serialize;

use super::command::{MigrateArgs, failure};
use super::deny::{DenyRule, Violation, violations};
use super::metadata::exceptions;
use super::plan_interrupt::PlanInterrupt;
use super::scratch_database::ScratchDatabase;
use crate::connect::{Database, redact_arguments};
use crate::failure::{Failure, Outcome};
use crate::output::{clean, show, show_json};

/// The options of `pglock migrate plan`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Plan")]
pub struct PlanArgs {
    /// Runs the migrations in this database, which must be empty, best on another server
    #[arg(long, value_name = "URL")]
    scratch: Option<String>,
    /// Runs the migrations in a database that is made on this server, and dropped at the end
    #[arg(long, conflicts_with = "scratch")]
    scratch_here: bool,
    /// Fails with code 7 if a migration would do this: `rewrite`, `index` (built while writes
    /// are blocked), or lock in a mode such as `access-exclusive` or a stronger one; `>1GB` allows
    /// smaller tables
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    deny: Vec<DenyRule>,
}

impl PlanArgs {
    /// Refuses options without `plan`, and `plan` without a scratch database.
    pub fn check(&self, is_plan: bool) -> Result<(), Failure> {
        let has_scratch = self.scratch.is_some() || self.scratch_here;
        let text = match (is_plan, has_scratch) {
            (true, false) => "`plan` needs `--scratch URL` or `--scratch-here`",
            (false, true) => "`--scratch` and `--scratch-here` need `plan`",
            (false, false) if !self.deny.is_empty() => "`--deny` needs `plan`",
            _ => return Ok(()),
        };
        Err(Failure::Usage(text.to_owned()))
    }

    /// Opens the scratch database of pending migrations.
    fn scratch(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<ScratchDatabase, Failure> {
        if let Some(url) = &self.scratch {
            return Ok(ScratchDatabase::existing(Database::of_option(
                url,
                "--scratch",
            )));
        }
        if let Some(statement) = cluster_wide_statement(source).map_err(failure)? {
            return Err(Failure::Usage(format!(
                "`--scratch-here` would reach beyond the scratch database: {statement}; use \
                 `--scratch` with a database of another server"
            )));
        }
        ScratchDatabase::make(conn, database)
    }
}

impl MigrateArgs {
    /// Shows the plan of the pending migrations.
    pub fn show_plan(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<Outcome, Failure> {
        let pending = self
            .plan_harness(conn, database, source)?
            .has_pending_migration(source.clone());
        let plan = if pending.map_err(failure)? {
            self.make_plan(conn, database, source)?
        } else {
            MigrationPlan::default()
        };
        let denied = violations(&plan, &self.plan.deny);
        if self.json {
            show_json(&JsonPlan {
                plan: &plan,
                denied: &denied,
            })?;
        } else {
            show(&text(&plan, &denied))?;
        }
        Ok(outcome(&plan, &denied))
    }

    fn make_plan(
        &self,
        conn: &mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<MigrationPlan, Failure> {
        let interrupt = match &self.plan.scratch {
            Some(url) => PlanInterrupt::catch(&Database::of_option(url, "--scratch"))?,
            None => PlanInterrupt::catch(database)?,
        };
        let scratch = self.plan.scratch(conn, database, source)?;
        let mut harness = self.plan_harness(conn, database, source)?;
        let plan = harness.plan(source.clone(), &scratch.database.limited_source());
        drop(scratch);
        match plan {
            _ if interrupt.happened() => Err(Failure::Interrupted),
            plan => plan.map_err(failure),
        }
    }

    fn plan_harness<'c>(
        &self,
        conn: &'c mut PgConnection,
        database: &Database,
        source: &FileBasedMigrations,
    ) -> Result<PrioritizedHarness<'c, PgConnection, String>, Failure> {
        let prioritizer = self.priority.prioritizer(database.source());
        let mut harness = self
            .priority
            .harness(PrioritizedHarness::new(conn, prioritizer));
        for exception in exceptions(source)? {
            harness = harness.for_migration(&exception.name, |it| exception.apply(it));
        }
        Ok(harness)
    }
}

/// The plan, and the statements that `--deny` denies.
#[derive(Serialize)]
struct JsonPlan<'p> {
    #[serde(flatten)]
    plan: &'p MigrationPlan,
    denied: &'p [Violation],
}

fn text(plan: &MigrationPlan, denied: &[Violation]) -> String {
    let plan = plan.to_string();
    let lines = plan.lines().map(|line| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        " ".repeat(indent) + &clean(&redact_arguments(line))
    });
    let denied = denied.iter().map(|it| clean(&it.line()));
    lines.chain(denied).map(|line| line + "\n").collect()
}

fn outcome(plan: &MigrationPlan, denied: &[Violation]) -> Outcome {
    if !denied.is_empty() {
        Outcome::DeniedByRule
    } else if plan.not_planned().next().is_some() {
        Outcome::NotPlanned
    } else {
        Outcome::Done
    }
}
