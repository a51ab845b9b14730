//! The time limit of the command's own statements.

use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use diesel::PgConnection;
use diesel::connection::{Connection, SimpleConnection};

use crate::duration::parse_duration;
use crate::failure::Failure;
use crate::output::print_error;

/// The limit of a statement, by default.
const LIMIT: Duration = Duration::from_secs(10);

/// The time that the server has, beyond the limit, to report that it has ended a statement.
const MARGIN: Duration = Duration::from_secs(2);

/// The exit code if the server does not answer: as if there were no connection.
const NO_ANSWER: i32 = 3;

/// The time limit of a command that reads.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitArgs {
    /// The time limit of each of the command's own statements; default: 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl LimitArgs {
    pub fn limit(self) -> Duration {
        self.timeout.unwrap_or(LIMIT)
    }

    /// Runs statements that the server ends after the limit, and ends the command if the server
    /// does not answer at all.
    pub fn within<T>(
        self,
        conn: &mut PgConnection,
        f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _watchdog = Watchdog::start(self.limit() + MARGIN);
        let started = Instant::now();
        let result = limited(conn, self.limit(), f);
        // An error about a name has the same kind, but comes at once.
        result.map_err(|failure| match failure {
            Failure::Usage(text) if started.elapsed() >= self.limit() => Failure::Failed(text),
            other => other,
        })
    }
}

/// Runs statements that the server ends after a limit.
///
/// The limit is set for one transaction: behind a pooler, a setting of the session would
/// outlive the command.
pub fn limited<T>(
    conn: &mut PgConnection,
    limit: Duration,
    f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let milliseconds = limit.as_millis().clamp(1, i32::MAX as u128);
    conn.transaction(|conn| {
        conn.batch_execute(&format!("SET LOCAL statement_timeout = {milliseconds}"))?;
        f(conn)
    })
}

/// Ends the process after a time, unless it is dropped before.
struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    fn start(limit: Duration) -> Self {
        let (alive, dropped) = channel::<()>();
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                print_error(&format!("the server did not answer within {limit:?}"));
                exit(NO_ANSWER);
            }
        });
        Self { _alive: alive }
    }
}
