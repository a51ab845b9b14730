use std::fmt;
use std::io;
use std::process::ExitCode;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use diesel_pglock::internal::with_sources;

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing matched, or the person at the prompt declined.
    Nothing,
    /// The server did not allow all of it, and that was shown.
    Denied,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Nothing => 1,
            Outcome::Denied => 4,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Usage(String),
    Connection(String),
    /// The server refused a statement, or the machine a file.
    Failed(String),
    /// By Ctrl-C.
    Interrupted,
    /// Whoever read the output has had enough.
    ClosedPipe,
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(match failure {
            Failure::Usage(_) => 2,
            Failure::Connection(_) => 3,
            Failure::Failed(_) => 5,
            Failure::Interrupted => 130,
            Failure::ClosedPipe => 0,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Connection(text) | Self::Failed(text) => f.write_str(text),
            Self::Interrupted => f.write_str("interrupted"),
            Self::ClosedPipe => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => {
                Self::Connection(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

fn is_closed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection,
            _
        ))
    )
}

impl From<diesel_pglock::Error> for Failure {
    fn from(error: diesel_pglock::Error) -> Self {
        match error {
            diesel_pglock::Error::Query(error) => error.into(),
            diesel_pglock::Error::History { ref source, .. } if is_closed(source.as_ref()) => {
                Self::Connection(with_sources(&error))
            }
            diesel_pglock::Error::Watcher(_) => Self::Connection(with_sources(&error)),
            other => Self::Failed(with_sources(&other)),
        }
    }
}
