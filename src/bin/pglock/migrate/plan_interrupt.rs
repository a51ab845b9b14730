//! Ctrl-C, or SIGTERM, while a plan is made.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use diesel::prelude::*;
use diesel_pglock::PgActivity;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::pg_stat_activity;

use super::interrupt::{CODE, POLL};
use super::scratch_database::ScratchDatabase;
use crate::connect::Database;
use crate::failure::Failure;
use crate::output::note;

/// The number of polls after which the process ends, even if the plan does not.
const POLLS: u32 = 100;

/// True once Ctrl-C or SIGTERM has arrived.
#[derive(Clone, Debug, Default)]
pub struct PlanInterrupt(Arc<AtomicBool>);

impl PlanInterrupt {
    /// Terminates the sessions of the plan on Ctrl-C, so that it ends and drops its database.
    ///
    /// `server` is a database of their server. A second Ctrl-C ends the process at once.
    pub fn catch(server: &Database) -> Result<Self, Failure> {
        let interrupt = Self::default();
        let (state, server) = (interrupt.clone(), server.clone());
        let handler = move || {
            if state.0.swap(true, Ordering::SeqCst) {
                let _ = note("\n");
                exit(CODE);
            }
            let _ = note("\nending the plan; press again to leave its database behind\n");
            let server = server.clone();
            thread::spawn(move || terminate_sessions(&server));
        };
        ctrlc::set_handler(handler).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(interrupt)
    }

    pub fn happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Terminates the sessions of the plan until the process ends.
fn terminate_sessions(server: &Database) {
    let name = ScratchDatabase::application_name();
    let mut conn = None;
    for _ in 0..POLLS {
        conn = conn.or_else(|| server.connect().ok());
        let sessions =
            PgActivity::query().filter(pg_stat_activity::application_name.eq(name.clone()));
        let terminated = conn.as_mut().map(|conn: &mut PgConnection| {
            let signals: diesel_pglock::Result<Vec<_>> = sessions.terminate_activity(conn);
            signals
        });
        conn = conn.filter(|_| matches!(terminated, Some(Ok(_))));
        thread::sleep(POLL);
    }
    exit(CODE);
}
