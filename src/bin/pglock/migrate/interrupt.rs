//! Ctrl-C, or SIGTERM, while migrations are run or listed.
//!
//! Ending the process is not enough: on the server the statement would still wait for its lock,
//! and block other sessions.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::pg_stat_activity;
use diesel_pglock::{BackendState, PgActivity};

use crate::connect::Database;
use crate::failure::Failure;
use crate::output::note;

/// The exit code of a process that SIGINT ended.
pub const CODE: i32 = 130;

/// The state of the interrupt, which the handler of the signal shares.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    happened: Arc<AtomicBool>,
    /// True if the session runs no statement that could be cancelled.
    is_idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Cancels the session's statement on Ctrl-C; a second one ends the process.
    pub fn catch(pid: i32, database: &Database) -> Result<Self, Failure> {
        let interrupt = Self::default();
        let (state, database) = (interrupt.clone(), database.clone());
        let handler = move || {
            if state.happened.swap(true, Ordering::SeqCst) || state.is_idle.load(Ordering::SeqCst) {
                // Below the line of the progress display.
                let _ = note("\n");
                exit(CODE);
            }
            let _ = note("\ncancelling; press again to exit at once\n");
            let database = database.clone();
            thread::spawn(move || cancel(pid, &database));
        };
        ctrlc::set_handler(handler).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(interrupt)
    }

    /// Notes that the session runs a statement, or none.
    pub fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::SeqCst);
    }

    /// Returns true once Ctrl-C or SIGTERM has arrived.
    pub fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

/// The pause between two polls of the session's state.
pub const POLL: Duration = Duration::from_millis(100);

/// The number of polls that find the session idle before the process ends.
const IDLE_POLLS: u32 = 10;

/// Cancels the statements of the session until the process ends.
///
/// A session that stays idle, in a pause between two attempts, has no statement to cancel: it
/// ends with the process.
fn cancel(pid: i32, database: &Database) {
    let (mut conn, mut idle_polls) = (None, 0);
    while idle_polls < IDLE_POLLS {
        // At first the server may have no free connection.
        conn = conn.or_else(|| database.connect().ok());
        let active = PgActivity::query()
            .filter(pg_stat_activity::pid.eq(pid))
            .filter(pg_stat_activity::state.eq(BackendState::Active));
        let cancelled = conn.as_mut().map(|conn| active.cancel_activity(conn));
        idle_polls = match &cancelled {
            Some(Ok(signals)) if signals.is_empty() => idle_polls + 1,
            _ => 0,
        };
        conn = conn.filter(|_| matches!(cancelled, Some(Ok(_))));
        thread::sleep(POLL);
    }
    exit(CODE);
}
