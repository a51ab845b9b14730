//! The lock timeout of a part of a run.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;

use super::report::HarnessReport;
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
    let (result, restored) = scoped(conn, setting, timeout, |conn, is_local| {
        // A failure inside the caller's transaction leaves it usable.
        if is_local {
            conn.transaction(f)
        } else {
            f(conn)
        }
    })?;
    match (result, restored) {
        (Ok(_), Err(error @ Error::SessionChanged { .. })) => Err(error.into()),
        (result, Err(error)) => {
            report.warn(settings, not_restored(setting, &error));
            result
        }
        (result, Ok(_)) => result,
    }
}

/// Runs `f` under a statement timeout; `None`: the session's own.
///
/// The second value is a warning about a previous timeout that could not be restored.
pub(crate) fn with_statement_timeout<C, T>(
    conn: &mut C,
    timeout: Option<Option<Duration>>,
    f: impl FnOnce(&mut C) -> Result<T>,
) -> Result<(T, Option<String>)>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let Some(timeout) = timeout else {
        return Ok((f(conn)?, None));
    };
    let setting = TimeoutSetting::Statement;
    let (result, restored) = scoped(conn, setting, timeout, |conn, _| f(conn))?;
    let warning = restored.err().map(|error| not_restored(setting, &error));
    Ok((result?, warning))
}

/// Runs `f` under a timeout. Returns its result, and that of restoring the timeout before.
///
/// The second argument of `f` is true if the timeout ends with the caller's transaction.
fn scoped<C, T>(
    conn: &mut C,
    setting: TimeoutSetting,
    timeout: Option<Duration>,
    f: impl FnOnce(&mut C, bool) -> Result<T>,
) -> Result<(Result<T>, crate::error::Result<()>)>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let previous = run_ready(scoped_timeout::set(&mut uncached(conn), setting, timeout))?;
    let is_local = previous.is_local();
    let f = |conn: &mut C| f(conn, is_local);
    let (result, previous) = run_or_undo(conn, previous, f, |conn, previous| {
        let _ = run_ready(scoped_timeout::restore(&mut uncached(conn), previous));
    });
    let restored = run_ready(scoped_timeout::restore(&mut uncached(conn), previous));
    Ok((result, restored))
}

fn not_restored(setting: TimeoutSetting, error: &Error) -> String {
    format!(
        "`{}` could not be restored, and the session was ended: {}",
        setting.name(),
        with_sources(error)
    )
}
