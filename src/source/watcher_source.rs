//! The sync source, and closures as one.

use std::sync::Arc;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::{Connection, ConnectionResult};

use crate::error::{Error, Result};

/// A source of the watcher's connection for a [`Prioritizer`](crate::Prioritizer):
/// a database URL, an r2d2 pool, or a closure that connects.
///
/// The connection must lead to the server of the connection that is prioritized. That is
/// checked. It must not lead through a pooler in transaction mode, which gives each statement
/// another session. The source must have a connection to spare: one per run at the same time.
///
/// A connection from a URL notices within about ten seconds that its network is silent: by
/// [`tcp_user_timeout`][libpq] and the parameters of TCP keepalives, where the URL does not set them
/// itself. This needs libpq 12 or later. Connections of pools and closures have the limits that
/// these give them.
///
/// A closure must own what it uses (`move || …`): the watcher's thread outlives the run if its
/// connection hangs.
///
/// The role of the connection must be the blockers' own, a member of it, or a member of
/// `pg_signal_backend`. With `pg_read_all_stats` as well the report shows more. See
/// [Predefined Roles][pg].
///
/// The watcher's session marks the prioritized session with an advisory lock, and releases it
/// at the end. If the release is not certain, the session is ended, and a pool replaces it. This
/// happens when a statement of the watcher failed or an async run was dropped.
///
/// A [`LockMonitor`](crate::LockMonitor) uses the same sources. Its session needs no privileges,
/// and acquires no lock.
///
/// [libpq]: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TCP-USER-TIMEOUT
/// [pg]: https://www.postgresql.org/docs/current/predefined-roles.html
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use diesel::{Connection, PgConnection};
/// use diesel_pglock::WatcherSource;
///
/// let url = database_url();
/// let source = move || PgConnection::establish(&url);
/// assert!(WatcherSource::connect(&source).is_ok());
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a source of sync watcher connections",
    note = "a source is a database URL (feature `postgres`), an r2d2 pool (feature `r2d2`), or a closure that returns `ConnectionResult<C>`"
)]
pub trait WatcherSource: Send + Sync {
    /// The connection that the source gives.
    type Connection: Connection<Backend = Pg> + LoadConnection + 'static;

    /// Opens a connection, or takes one from the pool.
    ///
    /// Waits as long as the source does: a pool for its own timeout, a URL for its
    /// `connect_timeout`, in whole seconds (default: no limit).
    ///
    /// # Errors
    ///
    /// [`Error::Watcher`] if there is none. Its text shows no password.
    fn connect(&self) -> Result<Self::Connection>;

    /// Returns a function that connects as this source does, and owns all that it needs.
    ///
    /// It belongs to the watcher's thread, which outlives the run if its connection hangs.
    fn connector(self: &Arc<Self>) -> Connector<Self::Connection>;
}

/// A function that connects, from [`WatcherSource::connector`].
pub type Connector<C> = Box<dyn Fn() -> Result<C> + Send>;

impl<F, C> WatcherSource for F
where
    F: Fn() -> ConnectionResult<C> + Send + Sync + 'static,
    C: Connection<Backend = Pg> + LoadConnection + 'static,
{
    type Connection = C;

    fn connect(&self) -> Result<C> {
        self().map_err(|error| Error::Watcher(Box::new(error)))
    }

    fn connector(self: &Arc<Self>) -> Connector<C> {
        shared(self)
    }
}

/// Returns the connector of a source that borrows nothing.
pub(super) fn shared<S: WatcherSource + 'static>(source: &Arc<S>) -> Connector<S::Connection> {
    let source = Arc::clone(source);
    Box::new(move || source.connect())
}
