//! The async source, and closures as one.

use std::future::Future;

use diesel::ConnectionResult;
use diesel::pg::Pg;
use diesel_async::AsyncConnection;

use crate::error::{Error, Result};

/// A source of the watcher's connection for a [`Prioritizer`](crate::Prioritizer) of an async
/// run: a database URL, a bb8, deadpool or mobc pool, or a closure that returns a future of a
/// connection.
///
/// Such a closure is `move || { let url = url.clone(); async move { … } }`. An `async` closure
/// that captures something could not be called more than once.
///
/// The requirements of [`WatcherSource`](crate::WatcherSource) apply here too, and so do the limits of
/// a silent network. A URL is connected to without TLS; use a closure or a pool for more.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a source of async watcher connections",
    note = "a source is a database URL, a pool (features `bb8`, `deadpool`, `mobc`), or a closure that returns a future of `ConnectionResult<C>`"
)]
pub trait AsyncWatcherSource: Send + Sync {
    /// The connection that the source gives.
    type Connection: AsyncConnection<Backend = Pg>;

    /// Opens a connection, or takes one from the pool.
    ///
    /// Waits as long as the source does: a pool for its own timeout, a URL for its
    /// `connect_timeout`, in whole seconds (default: no limit).
    ///
    /// # Errors
    ///
    /// [`Error::Watcher`] if there is none. Its text shows no password.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up; the prioritizer does so when its run ends.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection>> + Send;
}

impl<F, Fut, C> AsyncWatcherSource for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = ConnectionResult<C>> + Send,
    C: AsyncConnection<Backend = Pg>,
{
    type Connection = C;

    async fn connect(&self) -> Result<C> {
        self().await.map_err(watcher_error)
    }
}

/// Returns the error of a source that has no connection.
pub(super) fn watcher_error<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::Watcher(Box::new(error))
}
