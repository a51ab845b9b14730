use std::fmt;

/// A signal to a session, and what came of it.
///
/// See [Server Signaling Functions][pg].
///
/// [pg]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Signal {
    /// The session.
    pub pid: i32,
    /// What it was asked to do.
    pub kind: SignalKind,
    /// Whether it was asked.
    pub outcome: SignalOutcome,
}

/// What a session is asked to do.
// Exhaustive: PostgreSQL has these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum SignalKind {
    /// To stop its query: `pg_cancel_backend`.
    ///
    /// A session that is [idle in transaction](crate::BackendState::IdleInTransaction)
    /// has none: it is sent the signal, changes nothing and keeps its locks.
    #[doc(alias = "pg_cancel_backend")]
    Cancel,
    /// To end: `pg_terminate_backend`.
    #[doc(alias = "pg_terminate_backend")]
    Terminate,
}

/// Whether a session was sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SignalOutcome {
    /// It was sent, which a session may take its time to heed.
    Sent,
    /// It was not: the session has ended, or no longer stands in the way.
    Gone,
    /// It was not: this role may not signal that session. The server's own words.
    ///
    /// A role may signal the sessions of roles it is a member of; a member of
    /// `pg_signal_backend` those of all but superusers.
    Denied(String),
}

impl SignalKind {
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
        }
    }
}
