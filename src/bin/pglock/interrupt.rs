//! Ctrl-C while a migration runs.
//!
//! To end the process is not enough: on the server the migration would go on to wait
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

use crate::connection::Database;
use crate::failure::Failure;
use crate::output::note;

/// The exit code of a process that SIGINT has ended.
const CODE: i32 = 130;

#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    happened: Arc<AtomicBool>,
    runs: Arc<AtomicBool>,
}

impl Interrupt {
    /// On Ctrl-C cancels what the session runs; on a second one ends the process.
    pub fn catch(pid: i32, database: &Database) -> Result<Self, Failure> {
        let interrupt = Self::default();
        let (state, database) = (interrupt.clone(), database.clone());
        let handler = move || {
            // Before the first migration there is nothing to be cancelled.
            if state.happened.swap(true, Ordering::SeqCst) || !state.runs.load(Ordering::SeqCst) {
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

    pub fn begins_to_run(&self) {
        self.runs.store(true, Ordering::SeqCst);
    }

    pub fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

/// Cancels whatever the session runs, until the process ends for it.
fn cancel(pid: i32, database: &Database) {
    let mut conn = None;
    loop {
        // There may be no room for one more at first.
        conn = conn.or_else(|| database.connect().ok());
        let active = PgActivity::query()
            .filter(pg_stat_activity::pid.eq(pid))
            .filter(pg_stat_activity::state.eq(BackendState::Active));
        let cancelled = conn.as_mut().map(|conn| active.cancel_activity(conn));
        conn = conn.filter(|_| matches!(cancelled, Some(Ok(_))));
        thread::sleep(Duration::from_millis(100));
    }
}
