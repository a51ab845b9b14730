//! Ctrl-C, or SIGTERM, while migrations are run or listed.
//!
//! To end the process is not enough: on the server the statement would go on to wait
//! for its lock, and everybody behind it.

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

/// The exit code of a process that SIGINT has ended.
const CODE: i32 = 130;

#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    happened: Arc<AtomicBool>,
    /// Whether the session waits for nothing on the server.
    idles: Arc<AtomicBool>,
}

impl Interrupt {
    /// On Ctrl-C cancels what the session runs; on a second one ends the process.
    pub fn catch(pid: i32, database: &Database) -> Result<Self, Failure> {
        let interrupt = Self::default();
        let (state, database) = (interrupt.clone(), database.clone());
        let handler = move || {
            if state.happened.swap(true, Ordering::SeqCst) || state.idles.load(Ordering::SeqCst) {
                // Below the line that says what goes on.
                let _ = note("\n");
                exit(CODE);
            }
            let _ = note("\ncancelling; once more to leave at once\n");
            let database = database.clone();
            thread::spawn(move || cancel(pid, &database));
        };
        ctrlc::set_handler(handler).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(interrupt)
    }

    /// Notes whether there is nothing to be cancelled on the server.
    pub fn idles(&self, idles: bool) {
        self.idles.store(idles, Ordering::SeqCst);
    }

    pub fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

const POLL: Duration = Duration::from_millis(100);

/// How many polls find the session idle before it is taken to stay so.
const IDLE_POLLS: u32 = 10;

/// Cancels whatever the session runs, until the process ends for it.
///
/// A session that stays idle, in a pause between two attempts, has nothing to be cancelled:
/// it ends with the process.
fn cancel(pid: i32, database: &Database) {
    let (mut conn, mut idle_polls) = (None, 0);
    while idle_polls < IDLE_POLLS {
        // There may be no room for one more at first.
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
