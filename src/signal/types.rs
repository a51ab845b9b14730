//! The signals, and their outcomes.

use std::fmt;

/// A signal to a session, and its outcome.
///
/// See [Server Signaling Functions][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Signal {
    /// The process id of the session.
    pub pid: i32,
    /// The request to the session.
    pub kind: SignalKind,
    /// The outcome: sent or not.
    pub outcome: SignalOutcome,
}

/// The request that a signal makes.
// Exhaustive: PostgreSQL has these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum SignalKind {
    /// Cancels the running query: `pg_cancel_backend`.
    ///
    /// A session that is [idle in transaction](crate::BackendState::IdleInTransaction)
    /// runs no query: it receives the signal, changes nothing and keeps its locks.
    #[doc(alias = "pg_cancel_backend")]
    Cancel,
    /// Ends the session: `pg_terminate_backend`. Its transaction is rolled back.
    #[doc(alias = "pg_terminate_backend")]
    Terminate,
}

/// The outcome of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SignalOutcome {
    /// It was sent. The session may need a while to react.
    Sent,
    /// It was not sent: the session has ended, or does not block any more.
    Gone,
    /// It was not sent: this role lacks the privilege to signal that session. Contains the
    /// server's message, in the language of the server.
    ///
    /// A role may signal the sessions of the roles it is a member of. A member of
    /// `pg_signal_backend` may signal all sessions but those of superusers.
    Denied(String),
    /// It was not sent: the run only [observes](crate::Prioritizer::observe). A run that does
    /// not would have sent it.
    Observed,
    /// It was not sent: the process lives, but PostgreSQL signals only sessions. The replay of
    /// a standby (`startup`) and other processes of the server itself are none.
    Unsignallable,
}

impl SignalKind {
    /// Returns the name of the SQL function that sends the signal.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "pg_cancel_backend",
            Self::Terminate => "pg_terminate_backend",
        }
    }

    /// Returns the SQL function that sends the signal.
    pub(crate) const fn function(self) -> &'static str {
        match self {
            Self::Cancel => "pg_catalog.pg_cancel_backend",
            Self::Terminate => "pg_catalog.pg_terminate_backend",
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
        })
    }
}

impl fmt::Display for SignalOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.pad("sent"),
            Self::Gone => f.pad("gone"),
            Self::Denied(message) => write!(f, "denied: {message}"),
            Self::Observed => f.pad("observed, not sent"),
            Self::Unsignallable => f.pad("not possible: it is a process of the server"),
        }
    }
}
