//! Runs migrations one by one, under the runners' lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;

use super::attempt_extent::Extent;
use super::backoff::Backoff;
use super::embedded::MIGRATIONS;
use super::event::MigrationEvent;
use super::history::{HISTORY, HistoryPlace, RecordMigration, blockers_of_reading};
use super::report::{HarnessReport, MigrationReport, TakenLock};
use super::retry::LockFailures;
use crate::advisory::AdvisoryTarget;
use crate::advisory::acquire as flow;
use crate::advisory::might_hold;
use crate::error::Error;
use crate::fmt::with_sources;
use crate::prioritize::thread::watch_over;
use crate::prioritize::{Prioritizer, PrioritizerReport};
use crate::session::BackendPid;
use crate::session::PrioritizedSession;
use crate::session::run_or_undo;
use crate::session::run_ready;
use crate::session::uncached;
use crate::session::{ColumnsOf, Driver};
use crate::source::WatcherSource;
use crate::tables::pg_locks;
use crate::timeout::TimeoutSetting;
use crate::timeout::WaitOption;
use crate::timeout::scoped_timeout as lock_timeout;
use crate::types::RelationKind;
use crate::views::PgLock;

/// How long a statement of a migration waits for a lock, unless said.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the history may take to read before that is reported, and watched in a run.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(100);

/// How each migration is run.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `None`: the prioritizer's, or else the default; `Some(None)`: no limit.
    pub(crate) lock_timeout: Option<Option<Duration>>,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) on_event: Option<OnEvent>,
}

/// Where the history is, and the versions in it.
type ReadHistory = (HistoryPlace, Vec<MigrationVersion<'static>>);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

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
    /// How long a statement may wait for a lock, under this prioritizer.
    pub(crate) fn lock_timeout<S>(&self, prioritizer: &Prioritizer<S>) -> Option<Duration> {
        let of_prioritizer = prioritizer.settings().lock_timeout;
        let unsaid = of_prioritizer.or(Some(LOCK_TIMEOUT));
        self.lock_timeout.unwrap_or(unsaid)
    }

    pub(crate) fn tell(&self, event: &MigrationEvent) {
        event.trace();
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
    pub(crate) report: &'r mut HarnessReport,
    /// The migration lock, which this session holds.
    pub(crate) lock: AdvisoryTarget,
    /// The history, once it was found: a migration may lead the `search_path` to another.
    pub(crate) history: &'r mut Option<HistoryPlace>,
    /// The versions in the history, the last one first.
    applied: Vec<MigrationVersion<'static>>,
    /// What is in the history and means nothing to this run.
    left_out: Vec<MigrationVersion<'static>>,
    /// This session, once it was asked: a migration may leave it unable to answer in time.
    us: Option<PrioritizedSession>,
    /// Whether a migration has run under the lock, which it may have released.
    has_run: bool,
    lock_failures: LockFailures,
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
        let applied = self.applied.iter();
        let applied = applied.filter(|version| !self.left_out.contains(version));
        Ok(applied.map(MigrationVersion::as_owned).collect())
    }
}

impl<'r, C, S> MigrationRun<'r, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Begins a run under the migration lock, and reads once which migrations are applied.
    pub(crate) fn begin(
        conn: &'r mut C,
        lock: AdvisoryTarget,
        prioritizer: &'r Prioritizer<S>,
        settings: &'r Settings,
        report: &'r mut HarnessReport,
        history: &'r mut Option<HistoryPlace>,
    ) -> Result<Self> {
        let mut run = Self {
            conn,
            prioritizer,
            settings,
            report,
            lock,
            history,
            applied: Vec::new(),
            left_out: Vec::new(),
            us: None,
            has_run: false,
            lock_failures: LockFailures::default(),
        };
        run.read_history()?;
        Ok(run)
    }

    /// Reads the history, and lets Diesel make it if there is none.
    fn read_history(&mut self) -> Result<()> {
        // The watcher takes a connection of its own, which a history that is free does not need.
        let timeout = self.settings.lock_timeout(self.prioritizer);
        let at_once = timeout.map_or(AT_ONCE, |timeout| timeout.min(AT_ONCE));
        let known = self.history.clone();
        let read = with_lock_timeout(
            self.conn,
            Some(at_once),
            self.report,
            self.settings,
            |conn| read_or_make(conn, known.as_ref()),
        );
        match read {
            Ok(read) => self.use_history(read),
            Err(_) => {
                let read = self.wait_for_history(timeout)?;
                self.use_history(read);
            }
        }
        Ok(())
    }

    fn use_history(&mut self, (place, applied): ReadHistory) {
        (*self.history, self.applied) = (Some(place), applied);
    }

    /// Reads the history as a migration is run: prioritized, and again if a lock was not available.
    fn wait_for_history(&mut self, timeout: Option<Duration>) -> Result<ReadHistory> {
        let known = self.history.clone();
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.settings
                .tell(&MigrationEvent::ReadingHistory { attempt });
            self.lock_failures.before_attempt(self.conn);
            let started = Instant::now();
            let (read, watched) = self.watched(timeout, |conn| read_or_make(conn, known.as_ref()));
            self.report.history_blockers.extend(watched.blockers);
            self.report.warnings.extend(watched.errors);
            let error = match read {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let is_last = attempt >= self.settings.attempts;
            if is_last || !self.is_retryable(error.as_ref(), started.elapsed()) {
                return Err(self.unreadable(error));
            }
            self.pause(HISTORY, attempt, error.as_ref());
        }
    }

    fn unreadable(&mut self, error: BoxedError) -> BoxedError {
        let (report, known) = (&mut *self.report, self.history.as_ref());
        unreadable(self.conn, known, report, self.settings, error)
    }

    /// Leaves the crate's own migrations in peace, unless they are what is to be reverted:
    /// Diesel reverts a source only if that has all that was ever applied.
    pub(crate) fn leave_out_own(&mut self, source: &impl MigrationSource<Pg>) -> Result<()> {
        let meant = versions(source)?;
        self.left_out = versions(&MIGRATIONS)?;
        self.left_out.retain(|version| !meant.contains(version));
        Ok(())
    }

    /// Whether the migration is applied, or reverted, already: another runner may have been
    /// faster, if the caller looked before the lock was held.
    fn is_done(&self, version: &MigrationVersion<'static>, direction: Direction) -> bool {
        self.applied.contains(version) == (direction == Direction::Up)
    }

    fn migrate(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
    ) -> Result<MigrationVersion<'static>> {
        let version = migration.name().version().as_owned();
        if self.is_done(&version, direction) {
            return Ok(version);
        }
        self.keep_migration_lock()?;
        if self.is_done(&version, direction) {
            return Ok(version);
        }
        self.has_run = true;
        self.run_and_report(migration, direction)?;
        self.note(&version, direction);
        Ok(version)
    }

    /// Takes the migration lock again if a migration has released it, as `DISCARD ALL` and
    /// `pg_advisory_unlock_all` do.
    fn keep_migration_lock(&mut self) -> Result<()> {
        if !self.has_run || self.holds_lock() {
            return Ok(());
        }
        let acquired = run_ready(flow::acquire(
            &mut uncached(self.conn),
            self.lock,
            WaitOption::NoWait,
        ));
        acquired.map_err(|error| self.lost_lock(error))?;
        self.warn("a migration released the migration lock; it was acquired again".to_owned());
        // Another instance may have come and gone in between.
        self.read_history()
    }

    /// Whether the migration lock is held, or cannot be looked for.
    fn holds_lock(&mut self) -> bool {
        let (report, lock) = (&mut *self.report, self.lock);
        let held = with_lock_timeout(self.conn, Some(AT_ONCE), report, self.settings, |conn| {
            Ok(run_ready(might_hold(&mut uncached(conn), lock)))
        });
        held.unwrap_or(true)
    }

    fn lost_lock(&self, mut error: Error) -> Error {
        if let Error::NotAcquired { lock, .. } = &mut error {
            *lock = format!("the migration lock, which a migration released ({lock}),");
        }
        error
    }

    fn note(&mut self, version: &MigrationVersion<'static>, direction: Direction) {
        match direction {
            Direction::Up => self.applied.insert(0, version.as_owned()),
            Direction::Down => self.applied.retain(|it| it != version),
        }
    }

    fn warn(&mut self, warning: String) {
        self.report.warn(self.settings, warning);
    }

    fn run_and_report(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
    ) -> Result<()> {
        let started = Instant::now();
        let mut report = report_of(migration, direction);
        let result = self.try_repeatedly(migration, direction, &mut report);
        report.succeeded = result.is_ok();
        report.duration = started.elapsed();
        self.settings
            .tell(&MigrationEvent::Finished(report.clone()));
        self.report.migrations.push(report);
        result
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
            let is_last = report.attempts >= attempts;
            if !is_last {
                self.lock_failures.before_attempt(self.conn);
            }
            let started = Instant::now();
            let mut extent = Extent::Nothing;
            let measured = (!is_last).then_some(&mut extent);
            let Err(error) = self.try_once(migration, direction, measured, report) else {
                return Ok(());
            };
            if is_last || !self.is_retryable(error.as_ref(), started.elapsed()) {
                return Err(error);
            }
            report.not_retried = extent.refusal();
            if report.not_retried.is_some() {
                return Err(error);
            }
            self.pause(&report.name, report.attempts, error.as_ref());
        }
    }

    /// Pauses before the next attempt.
    fn pause(&self, name: &str, attempts: u32, error: &(dyn std::error::Error + 'static)) {
        let after = self.settings.backoff.pause_after(attempts);
        self.settings.tell(&MigrationEvent::Retrying {
            name: name.to_owned(),
            after,
            error: with_sources(error),
        });
        thread::sleep(after);
    }

    /// Whether an attempt that took so long failed because of a lock.
    fn is_retryable(&mut self, error: &(dyn std::error::Error + 'static), took: Duration) -> bool {
        let source = self.prioritizer.source();
        self.lock_failures
            .is_retryable(error, took, self.conn, source)
    }

    fn try_once(
        &mut self,
        migration: &dyn Migration<Pg>,
        direction: Direction,
        extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        self.settings.tell(&MigrationEvent::Running {
            name: report.name.clone(),
            attempt: report.attempts,
        });
        let lock_timeout = match migration.metadata().run_in_transaction() {
            true => self.settings.lock_timeout(self.prioritizer),
            // Not even the session's own: a cancelled index stays behind, invalid.
            false => None,
        };
        let history = self.history.clone();
        let apply = |conn: &mut C| apply(conn, migration, direction, history.as_ref());
        let (result, watched) = self.watched(lock_timeout, |conn| match extent {
            Some(extent) => extent.measure(conn, apply),
            None => apply(conn),
        });
        report.waited += watched.waited;
        report.blockers.extend(watched.blockers);
        report.watcher_errors.extend(watched.errors);
        let seen = result?;
        report.locks = seen.locks;
        if let Some(failure) = seen.failure {
            self.warn(format!("{}: {failure}", report.name));
        }
        Ok(())
    }

    /// Runs `f` under the timeout, and prioritized; with what the watcher reports.
    fn watched<T>(
        &mut self,
        lock_timeout: Option<Duration>,
        f: impl FnOnce(&mut C) -> Result<T>,
    ) -> (Result<T>, PrioritizerReport) {
        let prioritizer = self.prioritizer();
        let (report, known) = (&mut *self.report, &mut self.us);
        let result = with_lock_timeout(self.conn, lock_timeout, report, self.settings, |conn| {
            let us = match *known {
                Some(us) => us,
                None => *known.insert(run_ready(PrioritizedSession::identify(&mut uncached(
                    conn,
                )))?),
            };
            watch_over(&prioritizer, us, || f(conn))?
        });
        let watched = prioritizer.report();
        self.prioritizer.set_report(watched.clone());
        (result, watched)
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
        not_retried: None,
        watcher_errors: Vec::new(),
        duration: Duration::ZERO,
    }
}

/// Runs `f` under the timeout. That the timeout before cannot be restored does not undo what
/// `f` did, and is a warning.
pub(crate) fn with_lock_timeout<C, T>(
    conn: &mut C,
    timeout: Option<Duration>,
    report: &mut HarnessReport,
    settings: &Settings,
    f: impl FnOnce(&mut C) -> Result<T>,
) -> Result<T>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let previous = run_ready(lock_timeout::set(
        &mut uncached(conn),
        TimeoutSetting::Lock,
        timeout,
    ))?;
    let (result, previous) = run_or_undo(conn, previous, f, |conn, previous| {
        let _ = run_ready(lock_timeout::restore(&mut uncached(conn), previous));
    });
    let restored = run_ready(lock_timeout::restore(&mut uncached(conn), previous));
    match (result, restored) {
        (Ok(_), Err(error @ Error::SessionChanged { .. })) => Err(error.into()),
        (result, restored) => {
            if let Err(error) = restored {
                report.warn(settings, not_restored(&error));
            }
            result
        }
    }
}

fn not_restored(error: &Error) -> String {
    format!(
        "`lock_timeout` could not be restored, and the session was ended: {}",
        with_sources(error)
    )
}

/// Reads the history; if there is none, Diesel makes it, where and as it does.
fn read_or_make<C>(conn: &mut C, known: Option<&HistoryPlace>) -> Result<ReadHistory>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg>,
{
    let place = HistoryPlace::find(conn, known)?;
    if let Some(applied) = place.read(conn)? {
        return Ok((place, applied));
    }
    let made = conn.applied_migrations();
    let place = HistoryPlace::find(conn, None)?;
    match (made, place.read(conn)?) {
        // Diesel's own harness, which takes no lock, may have been faster.
        (_, Some(applied)) | (Ok(applied), None) => Ok((place, applied)),
        (Err(error), None) => Err(error),
    }
}

/// The error of a history that could not be read, with the sessions that lock it.
pub(crate) fn unreadable<C>(
    conn: &mut C,
    known: Option<&HistoryPlace>,
    report: &mut HarnessReport,
    settings: &Settings,
    error: BoxedError,
) -> BoxedError
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let source: BoxedError = match error.downcast().map(|own| *own) {
        Ok(Error::Query(error)) => error.into(),
        // It has nothing to do with the history.
        Ok(other) => return other.into(),
        Err(error) => error,
    };
    let holders = with_lock_timeout(conn, Some(AT_ONCE), report, settings, |conn| {
        let place = HistoryPlace::find(conn, known)?;
        let table = place.oid().ok_or(diesel::result::Error::NotFound)?;
        Ok(run_ready(blockers_of_reading(&mut uncached(conn), table)))
    });
    // That it could not be read stays the news.
    let holders = holders.unwrap_or_default();
    Box::new(Error::History { holders, source })
}

/// Runs a migration and records that, as Diesel's own harness does.
fn apply<C>(
    conn: &mut C,
    migration: &dyn Migration<Pg>,
    direction: Direction,
    history: Option<&HistoryPlace>,
) -> Result<Seen>
where
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    let apply = |conn: &mut C| -> Result<Seen> {
        match direction {
            Direction::Up => migration.run(conn)?,
            Direction::Down => migration.revert(conn)?,
        }
        let seen = Seen::after_migration(conn, history);
        run_ready(uncached(conn).execute(RecordMigration {
            schema: seen.history.clone(),
            version: migration.name().version().to_string(),
            reverted: direction == Direction::Down,
        }))?;
        Ok(seen)
    };
    match migration.metadata().run_in_transaction() {
        true => conn.transaction(apply),
        false => apply(conn),
    }
}

/// What there is to see when a migration has run, before its transaction ends.
#[derive(Default)]
struct Seen {
    locks: Vec<TakenLock>,
    /// The schema of the history.
    history: Option<String>,
    /// Why there is nothing to see.
    failure: Option<String>,
}

/// Apart from what the migration may have set, and from its transaction, which
/// a failure in here must not abort.
const BEGIN_LOOK: &str = "SAVEPOINT diesel_pglock; SET LOCAL statement_timeout = 0; \
    SET LOCAL lock_timeout = '1s'; SET LOCAL client_encoding = 'UTF8'";
const END_LOOK: &str = "ROLLBACK TO SAVEPOINT diesel_pglock; RELEASE SAVEPOINT diesel_pglock";

impl Seen {
    /// Looks; a failure to see something decides nothing.
    fn after_migration<C>(conn: &mut C, history: Option<&HistoryPlace>) -> Self
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        Self::look(conn, history).unwrap_or_else(|error| {
            let error = with_sources(&error);
            let failure = Some(format!("its locks could not be read: {error}"));
            Self {
                failure,
                ..Self::default()
            }
        })
    }

    fn look<C>(conn: &mut C, history: Option<&HistoryPlace>) -> crate::error::Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        // After a migration outside a transaction, or one that has ended its own.
        if uncached(conn).depth()? == 0 {
            let history = history_now(conn, history)?;
            return Ok(Self {
                history,
                ..Self::default()
            });
        }
        conn.batch_execute(BEGIN_LOOK)?;
        let seen = Self::look_in_savepoint(conn, history);
        conn.batch_execute(END_LOOK)?;
        seen
    }

    fn look_in_savepoint<C>(
        conn: &mut C,
        history: Option<&HistoryPlace>,
    ) -> crate::error::Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        Ok(Self {
            locks: taken_locks(conn)?,
            history: history_now(conn, history)?,
            failure: None,
        })
    }
}

fn history_now<C>(
    conn: &mut C,
    history: Option<&HistoryPlace>,
) -> crate::error::Result<Option<String>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let now = history.map(|history| history.now(conn)).transpose()?;
    Ok(now
        .flatten()
        .and_then(|now| now.schema().map(str::to_owned)))
}

fn taken_locks<C>(conn: &mut C) -> crate::error::Result<Vec<TakenLock>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn);
    let us = run_ready(driver.ask(BackendPid))?;
    let query = PgLock::query().filter(pg_locks::pid.eq(us));
    let locks = run_ready(driver.load::<_, ColumnsOf<PgLock>, PgLock>(query))?;
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
