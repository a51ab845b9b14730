use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::{Connection, ConnectionResult};

use crate::error::{Error, Result};

/// Where a [`Prioritizer`](crate::Prioritizer) gets its watcher's connection from:
/// a database URL, an r2d2 pool, or a closure that connects.
///
/// It must lead to the server of the connection that is prioritized; that is
/// checked, but cannot be behind a pooler in transaction mode. It must have a
/// connection to spare, and should give up connecting after a while: a run that is
/// over waits for the attempt. The role needs to be the blockers' own, or to be a member of
/// `pg_signal_backend`; with `pg_read_all_stats` too the report says more.
///
/// The session marks the run with an advisory lock and gives it back at the end. Where that is
/// not certain, since a statement of the watcher failed or an async run was dropped, the
/// session is ended; a pool replaces it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of sync watcher connections",
    note = "a source is a database URL (feature `postgres`), an r2d2 pool (feature `r2d2`), or a closure that returns `ConnectionResult<C>`"
)]
pub trait WatcherSource: Send + Sync {
    /// What it gives.
    type Connection: Connection<Backend = Pg> + LoadConnection;

    /// Opens a connection, or takes one from the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Watcher`] when there is none.
    fn connect(&self) -> Result<Self::Connection>;
}

#[cfg(feature = "postgres")]
impl WatcherSource for String {
    type Connection = diesel::PgConnection;

    fn connect(&self) -> Result<diesel::PgConnection> {
        self.as_str().connect()
    }
}

#[cfg(feature = "postgres")]
impl WatcherSource for &str {
    type Connection = diesel::PgConnection;

    fn connect(&self) -> Result<diesel::PgConnection> {
        diesel::PgConnection::establish(self).map_err(|error| super::redact::conceal(error, self))
    }
}

#[cfg(feature = "r2d2")]
impl<M> WatcherSource for diesel::r2d2::Pool<M>
where
    M: diesel::r2d2::ManageConnection,
    diesel::r2d2::PooledConnection<M>: Connection<Backend = Pg> + LoadConnection,
{
    type Connection = diesel::r2d2::PooledConnection<M>;

    fn connect(&self) -> Result<Self::Connection> {
        self.get().map_err(|error| Error::Watcher(Box::new(error)))
    }
}

impl<F, C> WatcherSource for F
where
    F: Fn() -> ConnectionResult<C> + Send + Sync,
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Connection = C;

    fn connect(&self) -> Result<C> {
        self().map_err(|error| Error::Watcher(Box::new(error)))
    }
}
