//! Runs migrations one by one, under the runners' lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{BoxableConnection, LoadConnection};
use diesel::migration::{
    Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result,
};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;

use crate::driver::{ColumnsOf, Driver};
use crate::fmt::with_sources;
use crate::statement::BackendPid;
use crate::sync_driver::{SyncDriver, ready};
use crate::tables::pg_locks;
use crate::want_of_lock::is_want_of_lock;
use crate::{
    Backoff, MIGRATIONS, MigrationEvent, MigrationReport, PgLock, PgLockConnection, Prioritizer,
    RelationKind, TakenLock, WatcherSource,
};

/// How long a statement of a migration waits for a lock, unless said.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How each migration is run.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `None`: the prioritizer's, or else the default; `Some(None)`: no limit.
    pub(crate) lock_timeout: Option<Option<Duration>>,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) on_event: Option<OnEvent>,
}

type OnEvent = Arc<dyn Fn(&MigrationEvent) + Send + Sync>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_timeout: None,
            attempts: 3,
            backoff: Backoff::default(),
            on_event: None,
        }
    }
}

impl Settings {
    pub(crate) fn tell(&self, event: &MigrationEvent) {
        crate::trace::migration(event);
        if let Some(on_event) = &self.on_event {
            on_event(event);
        }
    }
}

/// The harness of the runner whose turn it is.
pub(crate) struct MigrationRun<'r, C, S> {
    pub(crate) conn: &'r mut C,
    pub(crate) prioritizer: &'r Prioritizer<S>,
    pub(crate) settings: &'r Settings,
    pub(crate) reports: &'r mut Vec<MigrationReport>,
    /// What is in the history and means nothing to this run.
    pub(crate) left_out: Vec<MigrationVersion<'static>>,
}

/// Which way.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
}

impl<C, S> MigrationHarness<Pg> for MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    fn run_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.migrate(migration, Direction::Up)
    }

    fn revert_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.migrate(migration, Direction::Down)
    }

    fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        let mut applied = self.conn.applied_migrations()?;
        applied.retain(|version| !self.left_out.contains(version));
        Ok(applied)
    }
}

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Leaves the crate's own migrations in peace, unless they are what is to be reverted:
    /// Diesel reverts a source only if that has all that was ever applied.
    pub(crate) fn leave_out_own(&mut self, source: &impl MigrationSource<Pg>) -> Result<()> {
        let meant = versions(source)?;
        self.left_out = versions(&MIGRATIONS)?;
        self.left_out.retain(|version| !meant.contains(version));
        Ok(())
    }

    fn migrate(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
    ) -> Result<MigrationVersion<'static>> {
        let version = migration.name().version().as_owned();
        // Another runner may have been faster, if the caller looked before the lock was held.
        let is_applied = self.conn.applied_migrations()?.contains(&version);
        if is_applied == (direction == Direction::Up) {
            return Ok(version);
        }
        let started = Instant::now();
        let mut report = report_of(migration, direction);
        let result = self.try_repeatedly(migration, direction, &mut report);
        report.succeeded = result.is_ok();
        report.duration = started.elapsed();
        self.settings
            .tell(&MigrationEvent::Finished(report.clone()));
        self.reports.push(report);
        result.map(|()| version)
    }

    fn try_repeatedly(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let in_transaction = migration.metadata().run_in_transaction();
        let attempts = if in_transaction {
            self.settings.attempts
        } else {
            1
        };
        loop {
            report.attempts += 1;
            let started = Instant::now();
            let Err(error) = self.try_once(migration, direction, report) else {
                return Ok(());
            };
            if report.attempts >= attempts || !self.wanted_a_lock(error.as_ref(), started.elapsed())
            {
                return Err(error);
            }
            let after = self.settings.backoff.pause_after(report.attempts);
            self.settings.tell(&MigrationEvent::Retrying {
                name: report.name.clone(),
                after,
                error: with_sources(error.as_ref()),
            });
            thread::sleep(after);
        }
    }

    /// Whether an attempt that took so long failed for want of a lock.
    fn wanted_a_lock(&mut self, error: &(dyn std::error::Error + 'static), took: Duration) -> bool {
        is_want_of_lock(error, took, self.conn, self.prioritizer.source())
    }

    fn try_once(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
        report: &mut MigrationReport,
    ) -> Result<()> {
        self.settings.tell(&MigrationEvent::Running {
            name: report.name.clone(),
            attempt: report.attempts,
        });
        let prioritizer = self.prioritizer();
        let in_transaction = migration.metadata().run_in_transaction();
        let lock_timeout = self.lock_timeout();
        let result = self
            .conn
            .prioritize(&prioritizer, |conn| match in_transaction {
                true => conn.with_lock_timeout(lock_timeout, |conn| {
                    let migration = LockWitness::<C>::new(migration);
                    apply(conn, &migration, direction)?;
                    Ok(migration.locks.into_inner())
                }),
                // Not even the session's own: a cancelled index stays behind, invalid.
                false => conn.with_lock_timeout(None, |conn| {
                    apply(conn, migration, direction).map(|()| Vec::new())
                }),
            });
        let watched = prioritizer.report();
        self.prioritizer.set_report(watched.clone());
        report.waited += watched.waited;
        report.blockers.extend(watched.blockers);
        report.watcher_errors.extend(watched.errors);
        report.locks = result?;
        Ok(())
    }

    fn lock_timeout(&self) -> Option<Duration> {
        let of_prioritizer = self.prioritizer.settings().lock_timeout;
        let unsaid = of_prioritizer.or(Some(LOCK_TIMEOUT));
        self.settings.lock_timeout.unwrap_or(unsaid)
    }

    /// The prioritizer, telling the harness's listener too; without a lock timeout,
    /// which is not for every migration, and with a report that no other run writes.
    fn prioritizer(&self) -> Prioritizer<S> {
        let prioritizer = self.prioritizer.clone().for_one_migration();
        let Some(on_event) = self.settings.on_event.clone() else {
            return prioritizer;
        };
        let own = self.prioritizer.settings().on_event.clone();
        prioritizer.on_event(move |event| {
            if let Some(own) = &own {
                own(event);
            }
            on_event(&MigrationEvent::Prioritizer(event.clone()));
        })
    }
}

fn versions(source: &impl MigrationSource<Pg>) -> Result<Vec<MigrationVersion<'static>>> {
    let migrations = source.migrations()?;
    let versions = migrations.iter().map(|it| it.name().version().as_owned());
    Ok(versions.collect())
}

fn report_of(migration: &dyn Migration<Pg>, direction: Direction) -> MigrationReport {
    MigrationReport {
        name: migration.name().to_string(),
        reverted: direction == Direction::Down,
        succeeded: false,
        attempts: 0,
        waited: Duration::ZERO,
        blockers: Vec::new(),
        locks: Vec::new(),
        watcher_errors: Vec::new(),
        duration: Duration::ZERO,
    }
}

fn apply(
    conn: &mut impl MigrationHarness<Pg>,
    migration: &dyn Migration<Pg>,
    direction: Direction,
) -> Result<()> {
    match direction {
        Direction::Up => conn.run_migration(migration).map(drop),
        Direction::Down => conn.revert_migration(migration).map(drop),
    }
}

/// A migration that looks at its locks before they go, in the transaction that Diesel
/// runs it in. One around that would not do: a migration may set its isolation level.
struct LockWitness<'m, C> {
    migration: &'m dyn Migration<Pg>,
    locks: RefCell<Vec<TakenLock>>,
    connection: PhantomData<fn(C)>,
}

impl<'m, C> LockWitness<'m, C>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    fn new(migration: &'m dyn Migration<Pg>) -> Self {
        Self {
            migration,
            locks: RefCell::default(),
            connection: PhantomData,
        }
    }

    fn look(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        if let Some(conn) = conn.downcast_mut::<C>() {
            *self.locks.borrow_mut() = taken_locks(conn)?;
        }
        Ok(())
    }
}

impl<C> Migration<Pg> for LockWitness<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        self.migration.run(conn)?;
        self.look(conn)
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        self.migration.revert(conn)?;
        self.look(conn)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.migration.metadata()
    }

    fn name(&self) -> &dyn MigrationName {
        self.migration.name()
    }
}

fn taken_locks<C>(conn: &mut C) -> Result<Vec<TakenLock>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = SyncDriver(conn);
    let us = ready(driver.ask(BackendPid))?;
    let query = PgLock::query().filter(pg_locks::pid.eq(us));
    let locks = ready(driver.load::<_, ColumnsOf<PgLock>, PgLock>(query))?;
    Ok(strongest(locks))
}

/// The strongest mode on each table, system catalogs left out.
fn strongest(locks: Vec<PgLock>) -> Vec<TakenLock> {
    let mut strongest = BTreeMap::new();
    for lock in locks {
        let Some((relation, mode)) = lock.relation.zip(lock.mode.table_lock_mode()) else {
            continue;
        };
        if !is_table(&relation.kind) || relation.schema == "pg_catalog" {
            continue;
        }
        let taken = strongest
            .entry(relation.oid)
            .or_insert(TakenLock { relation, mode });
        taken.mode = taken.mode.max(mode);
    }
    strongest.into_values().collect()
}

fn is_table(kind: &RelationKind) -> bool {
    use RelationKind::*;
    matches!(
        kind,
        Table | PartitionedTable | ForeignTable | MaterializedView | View
    )
}
