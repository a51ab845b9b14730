//! Entries of the signal log for signals that a person sends.

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Text};
use diesel::{Connection, QueryResult};

use super::evidence::HeldBy;
use super::report::Blocker;
use super::signal_log::{Evidence, LogQueue};
use super::statement::{HAS_CONTEXT, LOG_EXISTS};
use crate::error::Result;
use crate::session::Driver;
use crate::session::query;
use crate::session::{SyncDriver, run_ready};
use crate::signal::{Signal, SignalKind, SignalOutcome};
use crate::views::PgActivity;
use crate::wait_graph::WaitNode;

/// The signal log of a database, for the command.
#[derive(Clone, Debug)]
pub struct ManualLog {
    has_context: bool,
    is_read_only: bool,
    /// The application name of this session.
    sender: String,
}

/// What the log records about a session that is about to be signalled.
#[derive(Debug)]
pub struct ManualEntry {
    log: ManualLog,
    blocker: Blocker,
    blocked_pid: i32,
    evidence: Evidence,
}

impl ManualLog {
    /// Finds the log; `None` if there is none.
    pub fn find<C>(conn: &mut C) -> Result<Option<Self>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let found = run_ready(SyncDriver(conn).ask(FindLog))?;
        let (exists, has_context, is_read_only, sender) = found;
        Ok(exists.then_some(Self {
            has_context,
            is_read_only,
            sender,
        }))
    }

    /// Returns whether the session can write, as it cannot on a standby.
    pub fn is_writable(&self) -> bool {
        !self.is_read_only
    }

    /// Returns whether the log has all columns.
    pub fn is_current(&self) -> bool {
        self.has_context
    }

    /// Reads what the log records, which is gone once the session has ended. `waiter` is the
    /// session that it has blocked longest.
    pub fn read<C>(
        &self,
        conn: &mut C,
        pid: i32,
        activity: Option<PgActivity>,
        waiter: Option<&WaitNode>,
    ) -> Result<ManualEntry>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let prioritized = waiter.and_then(|waiter| waiter.pid).unwrap_or_default();
        let held = HeldBy { pid, prioritized };
        let (held, blocked_query) = run_ready(SyncDriver(conn).ask(held))?;
        let wait = waiter.and_then(|waiter| waiter.wait.as_ref());
        let waited = wait.and_then(|wait| wait.lock.wait_duration?.to_std().ok());
        Ok(ManualEntry {
            log: self.clone(),
            blocked_pid: prioritized,
            evidence: Evidence {
                held,
                blocked_query,
                wait_path: wait.map_or(Vec::new(), |_| vec![prioritized, pid]),
            },
            blocker: Blocker {
                pid: Some(pid),
                prepared: None,
                activity,
                lock: wait.map(|wait| wait.lock.clone()).unwrap_or_default(),
                blocked_for: waited.unwrap_or(Duration::ZERO),
                protected: false,
                protection: None,
                signals: Vec::new(),
            },
        })
    }
}

impl ManualEntry {
    /// Writes the entry of a signal with its outcome.
    pub fn write<C>(self, conn: &mut C, kind: SignalKind, outcome: SignalOutcome) -> Result<()>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let mut queue = LogQueue::new(self.log.sender, self.log.has_context);
        let pid = self.blocker.pid.unwrap_or_default();
        let signal = Signal { pid, kind, outcome };
        queue.add(&self.blocker, &signal, self.evidence, self.blocked_pid);
        run_ready(queue.write(&mut SyncDriver(conn)))
    }
}

/// Finds the signal log.
#[derive(Debug)]
struct FindLog;

// Whether there is a log, it has all columns, and the session is read-only; the client's name.
query!(FindLog => (Bool, Bool, Bool, Text), (bool, bool, bool, String));

impl QueryFragment<Pg> for FindLog {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(LOG_EXISTS);
        out.push_sql(", ");
        out.push_sql(HAS_CONTEXT);
        out.push_sql(
            ", pg_catalog.current_setting('transaction_read_only') = 'on', \
             pg_catalog.current_setting('application_name')",
        );
        Ok(())
    }
}
