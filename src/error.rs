//! The error of this crate.

use std::time::Duration;

use crate::fmt::{backquoted, single_line};
use crate::types::AdvisoryKey;
use crate::views::HeldBy;
use crate::views::PgLock;

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
///
/// An error of the server (a deadlock, a cancelled statement, a lost connection)
/// is never reported as [`NotAcquired`](Error::NotAcquired).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another session holds the lock, and the call did not wait, or not long enough.
    #[error("{lock} was not acquired{}{}", waiting(.waited), HeldBy(.holders))]
    #[non_exhaustive]
    NotAcquired {
        /// The requested lock, such as ``shared advisory lock `42` ``.
        lock: String,
        /// The time that the call waited.
        waited: Duration,
        /// The conflicting locks with the sessions that hold them or wait for them; held locks
        /// first.
        ///
        /// Empty if they were gone when they were read, and for a view.
        holders: Vec<PgLock>,
    },

    /// The session does not hold the lock that it was to release.
    #[error("advisory lock `{0}` is not held by this session")]
    NotHeld(AdvisoryKey),

    /// A lock that ends with the transaction was asked for outside of one.
    #[error(
        "the lock ends with the transaction, and none is open; open one, or use `run`, which does"
    )]
    NotInTransaction,

    /// `run`, or a migration, opens a transaction of its own, and one is open already.
    #[error(
        "this opens transactions of its own, and one is open; call it outside, or use `acquire` in this one"
    )]
    InTransaction,

    /// The timeout is below 1 ms or above `i32::MAX` ms (24.8 days).
    #[error("the timeout {0:?} is not between 1 ms and {max} ms; to not wait at all use `nowait`", max = i32::MAX)]
    InvalidTimeout(Duration),

    /// Two statements of one session ran on two server processes: a pooler in
    /// transaction mode is in between, or a closure put another connection in the place of its
    /// own (`*conn = …`).
    ///
    /// Session locks and session settings cannot work there; use them inside a
    /// transaction, as `.xact()` does, or connect to the server directly.
    #[error(
        "{what} was asked for on backend {expected}, but a later statement ran on {}: a pooler in \
         transaction mode breaks session state (stay inside a transaction), or the closure \
         replaced the connection",
        backend(.found)
    )]
    #[non_exhaustive]
    SessionChanged {
        /// The lock or the setting.
        what: String,
        /// The process that has it.
        expected: i32,
        /// The process that answered later; `None` if that was the first one again.
        found: Option<i32>,
    },

    /// The server is a hot standby, where an advisory lock excludes no session of the primary or
    /// of other standbys. Nothing was acquired.
    #[error(
        "the server is in recovery, where an advisory lock excludes no session elsewhere; \
         connect to the primary, or use `on_standby`"
    )]
    InRecovery,

    /// The watcher, or the monitor of a lock, has no connection, or one that cannot serve;
    /// nothing was run.
    #[error("the watcher cannot work: {}", cause(.0.as_ref()))]
    Watcher(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The connection of the watcher, or of the monitor of a lock, does not see the session that
    /// it works for; nothing was run.
    #[error("the watcher's connection leads to another server: session {0} is not there")]
    OtherServer(i32),

    /// Signals are to be recorded, and `pglock.signal_log` is not there; nothing was run.
    #[error(
        "the table `pglock.signal_log` is missing, or the watcher's role may not insert into it; \
         run `diesel_pglock::MIGRATIONS`, or leave `audit` off"
    )]
    NoSignalLog,

    /// The prioritizer of a harness can never signal a session; nothing was run.
    #[error(
        "the policy can never signal a session: one must block for {needed:?}, and the lock timeouts \
         of all attempts together are {timeouts:?}; lower `grace`, or raise `lock_timeout` or `attempts`"
    )]
    #[non_exhaustive]
    NeverSignals {
        /// The grace period, and the time from a cancel to the termination.
        needed: Duration,
        /// The lock timeout times the attempts.
        timeouts: Duration,
    },

    /// PostgreSQL or Diesel refused a statement.
    #[error("the statement failed: {}", cause(.0))]
    Query(#[source] diesel::result::Error),

    /// No connection could be opened. This crate opens none but the watcher's, see
    /// [`Watcher`](Self::Watcher); it is for functions that connect and return this error.
    #[error("the connection could not be opened: {}", cause(.0))]
    Connection(#[from] diesel::ConnectionError),

    /// The history of migrations could not be read, or made; no migration was run.
    #[error("the history of migrations could not be read{}: {}", HeldBy(.holders), cause(.source.as_ref()))]
    #[non_exhaustive]
    History {
        /// The locks that keep it from being read.
        holders: Vec<PgLock>,
        /// The error of the server.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A migration outside a transaction failed, and left indexes that are invalid.
    ///
    /// Queries do not use them, but writes maintain them. `DROP INDEX CONCURRENTLY` removes one, and
    /// `REINDEX INDEX CONCURRENTLY` builds it anew.
    #[error(
        "{}; it left the invalid index {}: drop it, or rebuild it with `REINDEX INDEX CONCURRENTLY`",
        cause(.source.as_ref()), backquoted_list(.indexes)
    )]
    #[non_exhaustive]
    InvalidIndexes {
        /// The names of the indexes, with their schemas.
        indexes: Vec<String>,
        /// The error of the migration.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A migration waited until its timeout for blockers that cannot be signalled: prepared
    /// transactions, spared sessions, or sessions that the watcher's role lacks the privilege to signal.
    #[error(
        "{}; no signal ended its wait for {}",
        cause(.source.as_ref()), .blockers.join("; ")
    )]
    #[non_exhaustive]
    Unsignallable {
        /// The blockers, each in one line, as [`Blocker`](crate::Blocker) formats it.
        blockers: Vec<String>,
        /// The error of the migration.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The scratch database of a plan cannot be used; nothing was run.
    #[error("the scratch database cannot be used: {0}")]
    Scratch(String),

    /// A migration failed, or could not be read.
    ///
    /// Harnesses return boxed errors; `?` turns one into this, or into the [`Error`] in it.
    #[error("the migration failed: {}", cause(.0.as_ref()))]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Returns the text of a source in one line.
fn cause(source: &dyn std::error::Error) -> String {
    single_line(&source.to_string(), usize::MAX)
}

fn backquoted_list(names: &[String]) -> String {
    let names = names.iter().map(|name| backquoted(name, 130));
    names.collect::<Vec<_>>().join(", ")
}

fn waiting(waited: &Duration) -> String {
    match waited.as_millis() {
        0 => String::new(),
        millis => format!(" within {millis} ms"),
    }
}

fn backend(found: &Option<i32>) -> String {
    found.map_or("another".to_owned(), |pid| format!("backend {pid}"))
}

impl Error {
    /// Returns `true` if another session holds the lock: a later attempt may succeed.
    ///
    /// # Examples
    ///
    /// ```
    /// use diesel_pglock::Error;
    ///
    /// let error = Error::from(diesel::result::Error::NotFound);
    /// assert!(!error.is_not_acquired());
    /// ```
    pub fn is_not_acquired(&self) -> bool {
        matches!(self, Self::NotAcquired { .. })
    }
}

/// The error of a statement; one that carries an [`Error`] gives it back.
impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        match error {
            diesel::result::Error::QueryBuilderError(carried) => match carried.downcast() {
                Ok(own) => *own,
                Err(other) => Self::Query(diesel::result::Error::QueryBuilderError(other)),
            },
            error => Self::Query(error),
        }
    }
}

/// The error of a migration harness; one that is an [`Error`] comes out of its box.
impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        error.downcast().map_or_else(Self::Migration, |own| *own)
    }
}

/// Lets a closure that returns a `QueryResult` use `?` on this crate's results.
///
/// The error travels in [`QueryBuilderError`](diesel::result::Error::QueryBuilderError);
/// `Error::from` takes it out again.
impl From<Error> for diesel::result::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(error) => error,
            other => Self::QueryBuilderError(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::fmt::with_sources;

    #[test]
    fn an_error_survives_the_way_through_diesel() {
        let error = diesel::result::Error::from(Error::NotHeld(AdvisoryKey::new(7)));
        assert!(matches!(Error::from(error), Error::NotHeld(key) if key == AdvisoryKey::new(7)));
    }

    #[test]
    fn the_source_is_set_and_named_once() {
        let error = Error::from(diesel::result::Error::NotFound);
        assert_eq!(error.to_string(), "the statement failed: Record not found");
        assert_eq!(with_sources(&error), error.to_string());
        assert_eq!(
            error.source().unwrap().to_string(),
            diesel::result::Error::NotFound.to_string()
        );
    }

    #[test]
    fn an_error_comes_out_of_the_box_of_a_harness() {
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(Error::NoSignalLog);
        assert!(matches!(Error::from(boxed), Error::NoSignalLog));
        let other: Box<dyn std::error::Error + Send + Sync> = "no such directory".into();
        assert!(matches!(Error::from(other), Error::Migration(_)));
    }

    #[test]
    fn the_error_fits_every_error_type() {
        fn boxed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            Err(Error::InvalidTimeout(Duration::ZERO))?
        }
        assert!(
            boxed()
                .unwrap_err()
                .to_string()
                .contains("between 1 ms and 2147483647 ms")
        );
    }
}
