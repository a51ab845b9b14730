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
use crate::prioritize::thread::run_with_watcher;
use crate::prioritize::{Prioritizer, PrioritizerReport};
use crate::session::{PrioritizedSession, run_ready, uncached};
use crate::source::WatcherSource;

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
        f: impl FnOnce(&mut C) -> Result<T>,
    ) -> Watched<T> {
        let prioritizer = self.prioritizer_of_part();
        let (report, known) = (&mut *self.report, &mut self.session);
        let result = with_lock_timeout(self.conn, lock_timeout, report, self.settings, |conn| {
            let session = identify(conn, known)?;
            run_with_watcher(&prioritizer, session, || f(conn))?
        });
        let report = prioritizer.report();
        self.prioritizer.set_report(report.clone());
        Watched { result, report }
    }

    /// Returns the prioritizer of a part of the run, which passes its events on to the
    /// harness's listener too.
    ///
    /// It has no lock timeout, which not every migration has. No other run writes to its report.
    fn prioritizer_of_part(&self) -> Prioritizer<S> {
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

fn identify<C>(conn: &mut C, known: &mut Option<PrioritizedSession>) -> Result<PrioritizedSession>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    if let Some(session) = *known {
        return Ok(session);
    }
    let session = run_ready(PrioritizedSession::identify(&mut uncached(conn)))?;
    Ok(*known.insert(session))
}
