//! The plan of a harness.

use std::collections::BTreeSet;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::identity::DatabaseIdentity;
use super::migration_plan::{
    MigrationPlan, NotPlanned, PlannedIndex, PlannedLock, PlannedMigration, PlannedStatement,
};
use super::real_database::{RealDatabase, RelationName};
use super::relations::{Relation, Relations};
use super::scratch::{Scratch, ScratchSession};
use super::tracer::{FailedStatement, Trace, TracedStatement};
use crate::fmt::with_sources;
use crate::migrate::applied_migrations::BoxedError;
use crate::migrate::apply::{DirectedMigration, Direction};
use crate::migrate::distinct::{DistinctMigrations, warning};
use crate::migrate::embedded::MIGRATIONS;
use crate::migrate::harness::PrioritizedHarness;
use crate::migrate::lock_timeout::with_lock_timeout;
use crate::migrate::locks_first::LocksFirst;
use crate::migrate::settings::AT_ONCE;
use crate::source::WatcherSource;

impl<C, S> PrioritizedHarness<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Plans the pending migrations: what each statement would lock, rewrite and block.
    ///
    /// The applied migrations are run on the scratch database, and then the pending ones, statement by
    /// statement. Beside each lock the plan has the size of the table in this database, and the
    /// sessions that hold a conflicting lock. Relations match by schema and name.
    ///
    /// `scratch` is the URL of an empty database, or another [`WatcherSource`], for up to two
    /// connections at once. It must not be this database. One of another server is best: some
    /// statements change the whole server, such as `CREATE ROLE`. A scratch database serves one
    /// plan, since its tables stay. It has no rows but those that migrations insert, so a
    /// migration that real rows would make fail succeeds there.
    ///
    /// This database is only read, and the history stays as it is. Its tables are never waited
    /// for. They are locked for a moment each, as a query does, to read their sizes. Without
    /// pending migrations the plan is empty, and `scratch` unused.
    ///
    /// A statement that cannot run in a transaction, such as `CREATE INDEX CONCURRENTLY`, shows
    /// the lock on its first table; others may last too briefly to be seen.
    ///
    /// A migration that fails on the scratch database is reported in
    /// [`not_planned`](MigrationPlan::not_planned), and the plan goes on with the next.
    ///
    /// # Errors
    ///
    /// [`Error::Scratch`](crate::Error::Scratch) if `scratch` leads to this database, to one that has
    /// tables, or nowhere, and [`Error::History`](crate::Error::History) if the history cannot be
    /// read.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../../tests/support/doctest.rs");
    /// # use diesel::connection::SimpleConnection;
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let mut conn = connection();
    /// # let name = format!("scratch_{}", std::process::id());
    /// # conn.batch_execute(&format!("CREATE DATABASE {name}"))?;
    /// # let scratch_url = pglock_sandbox::with_database(database_url(), &name).expect("a URL");
    /// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
    ///
    /// let mut harness = PrioritizedHarness::new(&mut conn, Prioritizer::new(database_url()));
    /// let plan = harness.plan(MIGRATIONS, &scratch_url)?;
    /// let locks = plan.migrations.iter().flat_map(|it| &it.statements).flat_map(|it| &it.locks);
    /// assert_eq!(locks.count(), 0, "the signal log is a new table");
    /// println!("{plan}");
    /// # assert_eq!(plan.not_planned().count(), 0);
    /// # conn.batch_execute(&format!("DROP DATABASE {name}"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan<M, W>(&mut self, source: M, scratch: &W) -> Result<MigrationPlan>
    where
        M: MigrationSource<Pg>,
        W: WatcherSource<Connection: MigrationHarness<Pg>>,
    {
        let source = DistinctMigrations::of(&source)?;
        let applied = self.applied_migrations()?;
        let mut plan = MigrationPlan {
            warnings: warnings(&source, &applied)?,
            ..MigrationPlan::default()
        };
        let (applied, pending) = partition(&source, &applied)?;
        if pending.is_empty() {
            return Ok(plan);
        }
        let real = self.read(DatabaseIdentity::of)?;
        let name = real.name.clone();
        let scratch = Scratch {
            source: scratch,
            real,
        };
        let mut session = scratch.open()?;
        plan.not_applied = run_applied(&mut session, &applied);
        drop(session);
        let mut session = scratch.open_traced()?;
        let baseline = session.baseline();
        let traced = pending.iter();
        let traced: Vec<_> = traced
            .map(|it| self.trace(&mut session, it.as_ref()))
            .collect();
        let real = self.read_real(&names(&traced, &baseline), &name)?;
        plan.oldest_transaction = real.oldest_transaction.clone();
        let completion = Completion { real, baseline };
        let migrations = traced.into_iter();
        plan.migrations = migrations.map(|it| completion.migration(it)).collect();
        Ok(plan)
    }

    fn trace<D>(
        &self,
        session: &mut ScratchSession<D>,
        migration: &dyn Migration<Pg>,
    ) -> TracedMigration
    where
        D: Connection<Backend = Pg> + LoadConnection + 'static,
    {
        let directed = DirectedMigration {
            migration,
            direction: Direction::Up,
        };
        let (result, trace) = match self.settings.limits_of(directed, &self.prioritizer) {
            Ok(limits) => session.apply(migration, &limits.locks),
            Err(error) => (Err(error), Trace::default()),
        };
        TracedMigration {
            name: migration.name().to_string(),
            run_in_transaction: directed.runs_in_transaction(),
            trace,
            error: result.err(),
        }
    }

    /// Reads the real database under a short lock timeout.
    fn read<T>(&mut self, read: impl FnOnce(&mut C) -> crate::error::Result<T>) -> Result<T> {
        let (report, settings) = (&mut self.report, &self.settings);
        with_lock_timeout(self.conn, Some(AT_ONCE), report, settings, |conn| {
            Ok(read(conn)?)
        })
    }

    fn read_real(&mut self, names: &BTreeSet<RelationName>, name: &str) -> Result<RealDatabase> {
        let mut real = self.read(|conn| RealDatabase::read(conn, names, name))?;
        // A table that was locked in the meantime keeps the estimate of its size.
        let _ = self.read(|conn| real.read_sizes(conn));
        Ok(real)
    }
}

/// A migration, and its trace.
struct TracedMigration {
    name: String,
    run_in_transaction: bool,
    trace: Trace,
    error: Option<BoxedError>,
}

type Migrations = Vec<Box<dyn Migration<Pg>>>;

/// Returns the applied and the pending migrations, in the order of their versions.
fn partition(
    source: &DistinctMigrations,
    applied: &[MigrationVersion<'static>],
) -> Result<(Migrations, Migrations)> {
    let mut migrations = source.migrations()?;
    migrations.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    let migrations = migrations.into_iter();
    Ok(migrations.partition(|it| applied.contains(&it.name().version())))
}

/// Returns the warnings about versions that the source has twice, or not at all.
fn warnings(
    source: &DistinctMigrations,
    applied: &[MigrationVersion<'static>],
) -> Result<Vec<String>> {
    let names = source.names().into_iter();
    let mut warnings: Vec<_> = names
        .filter_map(|it| Some(warning(&it.name, source.skipped.get(&it.version)?)))
        .collect();
    let mut known = source.versions();
    known.extend(DistinctMigrations::of(&MIGRATIONS)?.versions());
    let missing = applied
        .iter()
        .rev()
        .filter(|version| !known.contains(version));
    warnings.extend(missing.map(|version| {
        format!(
            "version `{version}` is applied, but no migration has it: the plan lacks its effects"
        )
    }));
    Ok(warnings)
}

/// Runs the applied migrations, and returns those that failed.
fn run_applied<C>(session: &mut ScratchSession<C>, applied: &Migrations) -> Vec<NotPlanned>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    let mut failed = Vec::new();
    for migration in applied {
        let (result, _) = session.apply(migration.as_ref(), &LocksFirst::default());
        failed.extend(result.err().map(|error| {
            let name = migration.name().to_string();
            NotPlanned::new(name, with_sources(error.as_ref()), None)
        }));
    }
    failed
}

/// Returns the names of the relations that the plan mentions.
fn names(traced: &[TracedMigration], baseline: &Relations) -> BTreeSet<RelationName> {
    let statements = traced.iter().flat_map(|it| &it.trace.statements);
    let oids = statements.flat_map(TracedStatement::relations);
    let relations = oids.filter_map(|oid| baseline.get(&oid));
    relations
        .map(|it| (it.schema.clone(), it.name.clone()))
        .collect()
}

impl NotPlanned {
    fn new(name: String, error: String, failed: Option<FailedStatement>) -> Self {
        let Some(failed) = failed else {
            let (line, sql) = (None, None);
            return Self {
                name,
                line,
                sql,
                error,
            };
        };
        Self {
            name,
            line: Some(failed.line),
            sql: Some(failed.sql),
            error: failed.error,
        }
    }
}

/// The facts about the real database that complete a trace.
struct Completion {
    real: RealDatabase,
    baseline: Relations,
}

impl Completion {
    fn migration(&self, traced: TracedMigration) -> PlannedMigration {
        let error = traced.error.map(|error| with_sources(error.as_ref()));
        let name = traced.name.clone();
        let not_planned = error.map(|error| NotPlanned::new(name, error, traced.trace.failed));
        let statements = traced.trace.statements.into_iter();
        PlannedMigration {
            name: traced.name,
            run_in_transaction: traced.run_in_transaction,
            statements: statements.map(|it| self.statement(it)).collect(),
            not_planned,
        }
    }

    fn statement(&self, traced: TracedStatement) -> PlannedStatement {
        let relation = |oid: &u32| self.baseline.get(oid);
        let locks = traced.locks.iter();
        let locks = locks.filter_map(|(oid, mode)| Some((relation(oid)?, *mode)));
        let locks = locks.map(|(relation, mode)| PlannedLock {
            relation: self.real.relation(relation),
            mode,
            holders: self.real.holders(relation, mode),
        });
        let rewritten = traced.changes.rewritten.iter().filter_map(relation);
        let built = traced.changes.built.iter();
        PlannedStatement {
            locks: locks.collect(),
            rewrites: rewritten.map(|it| self.real.relation(it)).collect(),
            indexes: built
                .filter_map(|(it, rebuilt)| self.index(it, *rebuilt))
                .collect(),
            sql: traced.sql,
            line: traced.line,
            caveat: traced.caveat,
        }
    }

    fn index(&self, index: &Relation, rebuilt: bool) -> Option<PlannedIndex> {
        let table = self.baseline.get(&index.table?)?;
        Some(PlannedIndex {
            schema: index.schema.clone(),
            name: index.name.clone(),
            table: self.real.relation(table),
            rebuilt,
        })
    }
}
