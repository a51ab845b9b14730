//! The applied migrations, read from a history that is created if there is none.

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::history::{HistoryPlace, blockers_of_reading};
use super::lock_timeout::with_lock_timeout;
use super::report::HarnessReport;
use super::settings::{AT_ONCE, Settings};
use crate::error::Error;
use crate::session::{run_ready, uncached};

pub(crate) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// The applied migrations, and the place of the history that records them.
pub(crate) struct AppliedMigrations {
    pub(crate) place: HistoryPlace,
    /// The last version first.
    pub(crate) versions: Vec<MigrationVersion<'static>>,
}

impl AppliedMigrations {
    /// Reads the history; if there is none, Diesel creates it, at its own place.
    pub(crate) fn read_or_create<C>(conn: &mut C, known: Option<&HistoryPlace>) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg>,
    {
        let place = HistoryPlace::find(conn, known)?;
        match place.read(conn)? {
            Some(versions) => Ok(Self { place, versions }),
            None => Self::create(conn),
        }
    }

    fn create<C>(conn: &mut C) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg>,
    {
        let created = conn.applied_migrations();
        let place = HistoryPlace::find(conn, None)?;
        // Diesel's own harness, which takes no lock, may have been faster.
        let versions = match place.read(conn)? {
            Some(versions) => versions,
            None => created?,
        };
        Ok(Self { place, versions })
    }
}

/// Returns the error of a history that could not be read, with the sessions that lock it.
pub(crate) fn unreadable_history<C>(
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
        // Another error has other causes than the history.
        Ok(other) => return other.into(),
        Err(error) => error,
    };
    let holders = with_lock_timeout(conn, Some(AT_ONCE), report, settings, |conn| {
        let place = HistoryPlace::find(conn, known)?;
        let table = place.oid().ok_or(diesel::result::Error::NotFound)?;
        Ok(run_ready(blockers_of_reading(&mut uncached(conn), table)))
    });
    // A failure in here must not hide the first error.
    let holders = holders.unwrap_or_default();
    Box::new(Error::History { holders, source })
}
