//! The lock timeout of a part of a run.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;

use super::report::HarnessReport;
use super::run::MigrationRun;
use super::settings::Settings;
use crate::error::Error;
use crate::fmt::with_sources;
use crate::session::{run_or_undo, run_ready, uncached};
use crate::timeout::TimeoutSetting;
use crate::timeout::scoped_timeout;

/// Runs `f` under the timeout; `None`: no limit.
///
/// A previous timeout that cannot be restored does not undo the work of `f`: it becomes a
/// warning in the report.
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
    let setting = TimeoutSetting::Lock;
    let (result, restored) = scoped(
        conn,
        |conn| conn,
        setting,
        timeout,
        |conn, is_local| {
            // A failure inside the caller's transaction leaves it usable.
            if is_local {
                conn.transaction(f)
            } else {
                f(conn)
            }
        },
    )?;
    after_restoring(result, restored, report, settings)
}

/// Returns the result, with a warning if the lock timeout before it could not be restored.
fn after_restoring<T>(
    result: Result<T>,
    restored: crate::error::Result<()>,
    report: &mut HarnessReport,
    settings: &Settings,
) -> Result<T> {
    match (result, restored) {
        (Ok(_), Err(error @ Error::SessionChanged { .. })) => Err(error.into()),
        (result, Err(error)) => {
            report.warn(settings, not_restored(TimeoutSetting::Lock, &error));
            result
        }
        (result, Ok(())) => result,
    }
}

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Runs `f` under a statement timeout; `None`: the session's own.
    ///
    /// The second value is a warning about a previous timeout that could not be restored.
    pub(crate) fn with_statement_timeout<T>(
        &mut self,
        timeout: Option<Option<Duration>>,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Option<String>)> {
        let Some(timeout) = timeout else {
            return Ok((f(self)?, None));
        };
        let setting = TimeoutSetting::Statement;
        let (result, restored) = scoped(self, Self::conn, setting, timeout, |run, _| f(run))?;
        let warning = restored.err().map(|error| not_restored(setting, &error));
        Ok((result?, warning))
    }

    /// Restores the lock timeout that the attempts have replaced.
    pub(crate) fn restore_timeout<T>(&mut self, result: Result<T>) -> Result<T> {
        let Some(replaced) = self.replaced_timeout.take() else {
            return result;
        };
        let mut driver = uncached(self.conn);
        let restored = run_ready(scoped_timeout::restore_unless_changed(
            &mut driver,
            replaced,
        ));
        after_restoring(result, restored, self.report, self.settings)
    }

    fn conn(&mut self) -> &mut C {
        self.conn
    }
}

/// Runs `f` under a timeout of the connection that `conn` finds in `owner`. Returns its result, and
/// that of restoring the timeout before.
///
/// The second argument of `f` is true if the timeout ends with the caller's transaction.
fn scoped<O, C, T>(
    owner: &mut O,
    conn: fn(&mut O) -> &mut C,
    setting: TimeoutSetting,
    timeout: Option<Duration>,
    f: impl FnOnce(&mut O, bool) -> Result<T>,
) -> Result<(Result<T>, crate::error::Result<()>)>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn(owner));
    let previous = run_ready(scoped_timeout::set(&mut driver, setting, timeout))?;
    let is_local = previous.is_local();
    let restore = |owner: &mut O, previous| {
        run_ready(scoped_timeout::restore(
            &mut uncached(conn(owner)),
            previous,
        ))
    };
    let f = |owner: &mut O| f(owner, is_local);
    let (result, previous) = run_or_undo(owner, previous, f, |owner, previous| {
        let _ = restore(owner, previous);
    });
    Ok((result, restore(owner, previous)))
}

fn not_restored(setting: TimeoutSetting, error: &Error) -> String {
    format!(
        "`{}` could not be restored, and the session was ended: {}",
        setting.name(),
        with_sources(error)
    )
}
