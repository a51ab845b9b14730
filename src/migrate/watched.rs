//! A part of a run that is prioritized.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::event::MigrationEvent;
use super::lock_timeout::with_lock_timeout;
use super::run::MigrationRun;
use crate::prioritize::thread::WatcherThread;
use crate::prioritize::{Prioritizer, PrioritizerReport};
use crate::session::{SessionIdentity, run_ready, uncached};
use crate::source::WatcherSource;

/// A part of a run that is prioritized.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The name of its migration.
    pub(crate) work: Option<&'a str>,
    /// True in a further attempt at the same work.
    pub(crate) is_retry: bool,
}

/// The result of a prioritized part of a run, with the report of its watcher.
pub(crate) struct Watched<T> {
    pub(crate) result: Result<T>,
    pub(crate) report: PrioritizerReport,
}

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Runs `f` prioritized, and under the timeout.
    pub(crate) fn watched<T>(
        &mut self,
        lock_timeout: Option<Duration>,
        part: Part<'_>,
        f: impl FnOnce(&mut C) -> Result<T>,
    ) -> Watched<T> {
        self.watch(part, |run| {
            with_lock_timeout(run.conn, lock_timeout, run.report, run.settings, f)
        })
    }

    /// Runs `f` prioritized.
    pub(crate) fn watch<T>(
        &mut self,
        part: Part<'_>,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Watched<T> {
        let result = self.begin_part(part).and_then(|()| f(self));
        let report = self.watcher.as_ref().map(WatcherThread::report);
        Watched {
            result,
            report: report.unwrap_or_default(),
        }
    }

    /// Starts the watcher of the run, unless it was started before.
    pub(crate) fn start_watcher(&mut self) -> Result<()> {
        if self.watcher.is_none() {
            let prioritizer = self.watchers_prioritizer();
            self.watcher = Some(start(self.conn, &prioritizer)?);
        }
        Ok(())
    }

    fn begin_part(&mut self, part: Part<'_>) -> Result<()> {
        self.start_watcher()?;
        if let Some(watcher) = &self.watcher {
            watcher.begin_part(part.work.map(str::to_owned), part.is_retry);
        }
        Ok(())
    }

    /// Returns the prioritizer of the run's watcher, which passes its events on to the harness's
    /// listener too. It has no lock timeout, which not every migration has.
    fn watchers_prioritizer(&self) -> Prioritizer<S> {
        let prioritizer = self.prioritizer.clone().without_lock_timeout();
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

    /// Ends the watcher of the run, and reports what it could not finish.
    pub(crate) fn end_watcher(&mut self) {
        let Some(watcher) = self.watcher.take() else {
            return;
        };
        let known = watcher.report().errors;
        drop(watcher);
        let report = self.prioritizer.report();
        for error in report
            .errors
            .into_iter()
            .filter(|error| !known.contains(error))
        {
            self.report
                .warn(self.settings, format!("the watcher failed: {error}"));
        }
        for signal in report.unlogged {
            let warning = format!(
                "not in the signal log: {} of pid {}",
                signal.kind, signal.pid
            );
            self.report.warn(self.settings, warning);
        }
    }
}

/// Starts the watcher of a run, before its first part.
fn start<C, S>(conn: &mut C, prioritizer: &Prioritizer<S>) -> Result<WatcherThread>
where
    C: Connection<Backend = Pg> + LoadConnection,
    S: WatcherSource,
{
    let session = run_ready(SessionIdentity::identify(&mut uncached(conn)))?;
    let state = prioritizer.start_run();
    Ok(WatcherThread::start(prioritizer, state, session)?)
}
