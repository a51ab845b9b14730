//! Failures and exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use diesel_pglock::internal::with_sources;

/// The outcome of a command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing matched, or the question was declined.
    Nothing,
    /// The server denied a signal, and the output shows it.
    Denied,
    /// A signal was sent and has not had its effect.
    StillThere,
    /// A rule of `--deny` denies a planned migration.
    DeniedByRule,
    /// A migration could not be planned.
    NotPlanned,
    /// A command was run, and its exit code is passed on.
    Exit(u8),
}

impl Outcome {
    /// Returns the outcome of a search.
    pub fn of_found(count: usize) -> Self {
        if count == 0 {
            Self::Nothing
        } else {
            Self::Done
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Nothing => 1,
            Outcome::Denied => 4,
            Outcome::StillThere => 6,
            Outcome::DeniedByRule => 7,
            Outcome::NotPlanned => 8,
            Outcome::Exit(code) => code,
        })
    }
}

/// The exit code if `pglock run` fails before the command starts.
pub const NOT_RUN: u8 = 125;

/// The error that ended a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Usage(String),
    Connection(String),
    /// The server refused a statement, or a file cannot be read or written.
    Failed(String),
    /// The command of `pglock run` was not started.
    NotRun(String),
    /// Ctrl-C ended the command.
    Interrupted,
    /// The reader of the output has closed the pipe.
    ClosedPipe,
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(match failure {
            Failure::Usage(_) => 2,
            Failure::Connection(_) => 3,
            Failure::Failed(_) => 5,
            Failure::NotRun(_) => NOT_RUN,
            Failure::Interrupted => 130,
            Failure::ClosedPipe => 0,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text)
            | Self::Connection(text)
            | Self::Failed(text)
            | Self::NotRun(text) => f.write_str(text),
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
