//! The surroundings of a work: a server, the size of the run, and the peers that are programs.

use std::cell::RefCell;

use diesel::{Connection, PgConnection};
use pglock_sandbox::Sandbox;
use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::peer::Peer;
use crate::placement::Placement;
use crate::programs::{Django, Pgbench};

/// The sessions of the greatest crowd of waiters, and those that measure.
const SESSIONS: &str = "1100";

/// Room for 100,000 locks beside those of that many sessions.
const LOCKS_PER_SESSION: &str = "160";

/// A server, and the size of the run.
pub struct Bench {
    pub url: String,
    pub is_quick: bool,
    /// The CPUs of this process and the server.
    pub placement: Placement,
    pgbench: Option<Pgbench>,
    server: Sandbox,
    notes: RefCell<Vec<String>>,
}

impl Bench {
    /// Starts a server.
    pub fn start(is_quick: bool, placement: Placement) -> Result<Self> {
        let server = Sandbox::builder()
            .setting("max_connections", SESSIONS)
            .setting("max_locks_per_transaction", LOCKS_PER_SESSION)
            .setting("autovacuum", "off")
            // A long queue would search itself for deadlocks.
            .setting("deadlock_timeout", "1h")
            .start()?;
        let bench = Self {
            url: server.url(),
            is_quick,
            placement,
            pgbench: Pgbench::find()?,
            server,
            notes: RefCell::default(),
        };
        if bench.pgbench.is_none() {
            bench.note("pgbench was not found, and is left out.");
        }
        Ok(bench)
    }

    /// Returns the major version of the server.
    pub fn version(&self) -> u32 {
        self.server.version()
    }

    /// Returns the number of rounds of a work whose samples take a tenth of a second.
    pub fn rounds(&self) -> usize {
        self.pick(21, 5)
    }

    /// Returns pgbench as a peer that runs a script so many times per sample; `None` without it.
    pub fn pgbench(&self, script: String, calls: usize) -> Option<Peer<'_>> {
        let pgbench = self.pgbench.as_ref()?;
        let sample = move || pgbench.sample(&self.url, &script, calls);
        Some(Peer::speed("pgbench -M prepared", sample))
    }

    /// Returns django-pglock as a peer; `None` without it.
    ///
    /// A quick run does not install it.
    pub fn django(&self, work: &'static str, calls: usize) -> Result<Option<Peer<'_>>> {
        let install = self.pick(Django::install as fn() -> _, Django::is_installed);
        if !install()? {
            self.note("django-pglock is not installed, and is left out.");
            return Ok(None);
        }
        let mut django = Django::start(&self.server)?;
        let sample = move || django.sample(work, calls);
        Ok(Some(Peer::speed("django-pglock", sample)))
    }

    /// Returns the first of two sizes in a full run, and the second in a quick one.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Opens a session.
    pub fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::establish(&self.url)?)
    }

    /// Adds a line below the table, once.
    pub fn note(&self, note: impl Into<String>) {
        let (note, mut notes) = (note.into(), self.notes.borrow_mut());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Returns the notes since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }
}

/// Returns a runtime for async peers, on the thread that drives it.
pub fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    Ok(runtime?)
}
