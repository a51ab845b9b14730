use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::backoff::Backoff;
use super::backoff::fraction;
use super::event::MigrationEvent;
use super::history::HistoryPlace;
use super::report::HarnessReport;
use super::run::{AT_ONCE, MigrationRun, Settings, unreadable, with_lock_timeout};
use crate::advisory::AdvisoryHold;
use crate::advisory::AdvisoryTarget;
use crate::advisory::acquire as flow;
use crate::error::Error;
use crate::fmt::with_sources;
use crate::prioritize::Prioritizer;
use crate::session::Driver;
use crate::session::run_or_undo;
use crate::session::uncached;
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::timeout::WaitOption;
use crate::types::AdvisoryKey;

/// How often a runner asks whether another one has finished, on average.
const POLL: Duration = Duration::from_millis(100);

/// Runs migrations that get through, one runner at a time.
///
/// It decorates a connection and is a [`MigrationHarness`] itself:
///
/// * Runners that start together take turns, by an advisory lock that is held while
///   migrations are looked for and run. Each migration is applied once.
/// * Each migration is [prioritized](Prioritizer): who is in its way is moved.
/// * Each runs under a `lock_timeout` and is tried again when it failed for want of a
///   lock, so that it does not hold up the application's queries behind itself. One that has
///   ended its transaction, and may have committed a part of itself, is not tried again.
///
/// The history of migrations is read as a migration is run: prioritized, under the
/// `lock_timeout`, and again if it is locked. Questions such as
/// [`pending_migrations`](MigrationHarness::pending_migrations) signal no session, and write nothing.
///
/// What Diesel's own harness applies it applies, with the same history: the one that was found
/// first, even if a migration changes the `search_path`, the role or other things of the session.
///
/// A migration with `run_in_transaction = false` is prioritized too, but has no
/// `lock_timeout` and is tried once: a `CREATE INDEX CONCURRENTLY` that is cancelled
/// leaves an invalid index behind.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = connection();
/// use diesel_migrations::MigrationHarness;
/// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
///
/// let mut harness = PrioritizedHarness::new(&mut conn, Prioritizer::new(database_url()));
/// harness.run_pending_migrations(MIGRATIONS)?;
/// assert_eq!(harness.report().migrations.len(), 1);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct PrioritizedHarness<'c, C, S> {
    conn: &'c mut C,
    prioritizer: Prioritizer<S>,
    settings: Settings,
    lock_key: Option<AdvisoryKey>,
    patience: Option<Duration>,
    report: HarnessReport,
    /// The history, once it was found.
    history: Option<HistoryPlace>,
}

impl<'c, C, S> PrioritizedHarness<'c, C, S> {
    /// Runs migrations on `conn`, and lets them through with `prioritizer`.
    pub fn new(conn: &'c mut C, prioritizer: Prioritizer<S>) -> Self {
        Self {
            conn,
            prioritizer,
            settings: Settings::default(),
            lock_key: None,
            patience: None,
            report: HarnessReport::default(),
            history: None,
        }
    }

    /// How long a statement of a migration, or one that reads the history, may wait for a lock,
    /// 1 ms to `i32::MAX` ms, or `None` for as long as it takes; unless said it is the
    /// prioritizer's [`lock_timeout`](Prioritizer::lock_timeout), or else 5 s.
    ///
    /// Neither is for migrations outside a transaction.
    pub fn lock_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.lock_timeout = Some(timeout.into());
        self
    }

    /// How often a migration is tried that fails for want of a lock; 3 times unless said, and at least once.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// How long to pause between attempts; [`Backoff::default`] unless said.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// The advisory lock by which runners take turns.
    ///
    /// Unless said it is named after the schema that has, or is to have, Diesel's
    /// history of migrations: tenants with a `search_path` each do not wait for
    /// each other.
    pub fn lock_key(mut self, key: impl Into<AdvisoryKey>) -> Self {
        self.lock_key = Some(key.into());
        self
    }

    /// How long to wait for other runners before giving up with
    /// [`Error::NotAcquired`]; as long as it takes unless said.
    pub fn wait_for_instances(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.patience = timeout.into();
        self
    }

    /// Calls `on_event` on the way: fit for a progress display.
    ///
    /// What comes from the watcher is told on the watcher's thread.
    pub fn on_event(mut self, on_event: impl Fn(&MigrationEvent) + Send + Sync + 'static) -> Self {
        self.settings.on_event = Some(Arc::new(on_event));
        self
    }

    /// What was done so far, also after an error.
    pub fn report(&self) -> HarnessReport {
        self.report.clone()
    }
}

/// The connection is left out.
impl<C, S> fmt::Debug for PrioritizedHarness<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrioritizedHarness")
            .field("prioritizer", &self.prioritizer)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl<C, S> PrioritizedHarness<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Does something while no other runner does.
    fn alone<T>(&mut self, f: impl FnOnce(&mut MigrationRun<'_, C, S>) -> Result<T>) -> Result<T> {
        SyncDriver(self.conn).refuse_transaction()?;
        let lock = AdvisoryTarget::new(self.key()?);
        let started = Instant::now();
        let hold = take_turn(self.conn, lock, self.patience, &self.settings)?;
        self.report.waited_for_instances += started.elapsed();
        let begin_and_run = |conn: &mut C| {
            let (report, history) = (&mut self.report, &mut self.history);
            let (prioritizer, settings) = (&self.prioritizer, &self.settings);
            let run = MigrationRun::begin(conn, lock, prioritizer, settings, report, history);
            f(&mut run?)
        };
        let (result, hold) = run_or_undo(self.conn, hold, begin_and_run, |conn, hold| {
            let _ = run_ready(hold.leave(&mut uncached(conn), false));
        });
        let released = self.release(hold);
        result.and_then(|value| Ok(released.map(|()| value)?))
    }

    fn key(&mut self) -> Result<AdvisoryKey> {
        match self.lock_key {
            Some(key) => Ok(key),
            None => Ok(self.ask_history(HistoryPlace::find)?.key()),
        }
    }

    /// Asks something of the history, without a watcher, which is not for questions.
    fn ask_history<T>(&mut self, ask: AskHistory<C, T>) -> Result<T> {
        let timeout = self.settings.lock_timeout(&self.prioritizer);
        let is_short = timeout.is_some_and(|timeout| timeout <= AT_ONCE);
        // In a transaction, which a failed attempt would abort, there is but one.
        if !is_short && SyncDriver(&mut *self.conn).depth()? == 0 {
            if let Ok(answer) = self.ask_within(Some(AT_ONCE), ask) {
                return Ok(answer);
            }
            self.settings
                .tell(&MigrationEvent::ReadingHistory { attempt: 1 });
        }
        self.ask_within(timeout, ask).map_err(|error| {
            let (report, known) = (&mut self.report, self.history.as_ref());
            unreadable(self.conn, known, report, &self.settings, error)
        })
    }

    fn ask_within<T>(&mut self, timeout: Option<Duration>, ask: AskHistory<C, T>) -> Result<T> {
        let (report, known) = (&mut self.report, self.history.as_ref());
        with_lock_timeout(self.conn, timeout, report, &self.settings, |conn| {
            Ok(ask(conn, known)?)
        })
    }

    /// Releases the migration lock; that it is gone, or goes with its session, undoes no migration.
    fn release(&mut self, hold: AdvisoryHold) -> crate::error::Result<()> {
        let released = run_ready(hold.release(&mut uncached(self.conn)));
        let warning = match released {
            Ok(()) | Err(Error::SessionChanged { .. }) => return released,
            Err(Error::NotHeld(_)) => "a migration released the migration lock".to_owned(),
            Err(error) => format!(
                "the migration lock could not be released, and the session was ended: {}",
                with_sources(&error)
            ),
        };
        self.report.warn(&self.settings, warning);
        Ok(())
    }
}

type AskHistory<C, T> = fn(&mut C, Option<&HistoryPlace>) -> crate::error::Result<T>;

/// Polls for the runners' lock.
///
/// A session that waits inside `pg_advisory_lock` holds a snapshot all the while, and
/// a `CREATE INDEX CONCURRENTLY` of the runner before it would wait for that: a deadlock.
fn take_turn<C>(
    conn: &mut C,
    lock: AdvisoryTarget,
    patience: Option<Duration>,
    settings: &Settings,
) -> Result<AdvisoryHold>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let started = Instant::now();
    let mut told = false;
    loop {
        let is_last = patience.is_some_and(|patience| started.elapsed() >= patience);
        match run_ready(flow::try_acquire(
            &mut uncached(conn),
            lock,
            WaitOption::NoWait,
        ))? {
            Some(hold) => return Ok(hold),
            // Asked once more, for the error that names the other runner.
            None if is_last => {
                let mut refused =
                    run_ready(flow::acquire(&mut uncached(conn), lock, WaitOption::NoWait));
                if let Err(Error::NotAcquired { waited, .. }) = &mut refused {
                    *waited = started.elapsed();
                }
                return Ok(refused?);
            }
            None if !told => settings.tell(&MigrationEvent::WaitingForInstance),
            None => {}
        }
        told = true;
        thread::sleep(POLL.mul_f64(0.5 + fraction()));
    }
}

impl<C, S> MigrationHarness<Pg> for PrioritizedHarness<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    fn run_pending_migrations<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        self.alone(|run| owned(run.run_pending_migrations(source)?))
    }

    fn run_migrations(
        &mut self,
        migrations: &[Box<dyn Migration<Pg>>],
    ) -> Result<Vec<MigrationVersion<'_>>> {
        self.alone(|run| owned(run.run_migrations(migrations)?))
    }

    fn run_next_migration<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<MigrationVersion<'_>> {
        self.alone(|run| Ok(run.run_next_migration(source)?.as_owned()))
    }

    /// Reverts all that is applied, but for [`MIGRATIONS`](crate::MIGRATIONS) that the source lacks.
    fn revert_all_migrations<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        self.alone(|run| {
            run.leave_out_own(&source)?;
            owned(run.revert_all_migrations(source)?)
        })
    }

    fn revert_last_migration<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<MigrationVersion<'static>> {
        self.alone(|run| {
            run.leave_out_own(&source)?;
            run.revert_last_migration(source)
        })
    }

    /// Runs it unless another runner has, since it was found pending.
    fn run_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.alone(|run| run.run_migration(migration))
    }

    /// Reverts it unless another runner has, since it was found applied.
    fn revert_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.alone(|run| run.revert_migration(migration))
    }

    /// Reads the history, and does not make it: it writes nothing, takes no lock but on the
    /// history, and signals no session. It waits for the
    /// [lock timeout](PrioritizedHarness::lock_timeout) at most.
    ///
    /// # Errors
    ///
    /// [`Error::History`] when the history cannot be read.
    fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        let (place, applied) = self.ask_history(|conn, known| {
            let place = HistoryPlace::find(conn, known)?;
            let applied = place.read(conn)?;
            Ok((place, applied))
        })?;
        self.history = applied.is_some().then_some(place);
        Ok(applied.unwrap_or_default())
    }
}

fn owned(versions: Vec<MigrationVersion<'_>>) -> Result<Vec<MigrationVersion<'static>>> {
    Ok(versions.iter().map(MigrationVersion::as_owned).collect())
}
