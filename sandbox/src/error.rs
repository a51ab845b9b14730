//! The errors of starting a server.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

const HOW_TO_INSTALL: &str = "\
    Debian, Ubuntu:  apt-get install postgresql\n  \
    Fedora:          dnf install postgresql-server\n  \
    Arch:            pacman -S postgresql\n  \
    macOS:           brew install postgresql@18\n\
    or set `PGLOCK_PG_BINDIR` to the folder that holds `initdb` and `postgres`";

/// The error of a server that could not be started or restarted.
#[non_exhaustive]
pub enum SandboxError {
    /// This machine has no PostgreSQL server; the message names the packages to install.
    NotInstalled,
    /// The chosen folder does not hold `initdb` and `postgres`.
    NotAServer(PathBuf),
    /// This machine has no PgBouncer.
    NoPgBouncer,
    /// PostgreSQL refuses to run as root, and no other account was found.
    NoAccount,
    /// The account that runs the server for root cannot enter the folder of its programs.
    NotAccessible {
        /// The folder that the account cannot enter.
        path: PathBuf,
        /// The account.
        account: String,
    },
    /// The server, or `initdb` before it, ended before it was ready.
    Ended {
        /// The last lines of the server's log.
        log: String,
    },
    /// The server was not ready in time.
    NotReady {
        /// The time limit.
        limit: Duration,
        /// The last lines of the server's log.
        log: String,
    },
    /// The operating system refused an action.
    Io {
        /// The action, such as ``create `/tmp/x` ``.
        action: String,
        /// The reason.
        source: io::Error,
    },
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => write!(
                f,
                "no PostgreSQL server found; install one:\n  {HOW_TO_INSTALL}"
            ),
            Self::NotAServer(dir) => write!(
                f,
                "`{}` does not hold `initdb` and `postgres`",
                dir.display()
            ),
            Self::NoPgBouncer => write!(
                f,
                "no PgBouncer found; install one:\n  Debian, Ubuntu:  apt-get install pgbouncer"
            ),
            Self::NoAccount => write!(
                f,
                "PostgreSQL refuses to run as root, and `/etc/passwd` has neither `postgres` nor `nobody`"
            ),
            Self::NotAccessible { path, account } => write!(
                f,
                "the account `{account}`, which runs PostgreSQL for root, cannot enter `{}`; \
                 open it (`chmod o+x`) or put PostgreSQL elsewhere",
                path.display()
            ),
            Self::Ended { log } => write!(
                f,
                "the PostgreSQL server ended before it was ready; its log ends with:\n{log}"
            ),
            Self::NotReady { limit, log } => {
                write!(
                    f,
                    "the PostgreSQL server was not ready after {limit:?}; its log ends with:\n{log}"
                )
            }
            Self::Io { action, .. } => write!(f, "could not {action}"),
        }
    }
}

/// Writes the message and its cause: `unwrap` and `main` show this, and a log has several lines.
impl fmt::Debug for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.source()
            .map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl Error for SandboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Adds the action to an error of the operating system.
pub(crate) trait During<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T, SandboxError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T, SandboxError> {
        self.map_err(|source| SandboxError::Io {
            action: action(),
            source,
        })
    }
}
