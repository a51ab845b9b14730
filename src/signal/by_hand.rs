//! Signals that a person sends, by statements that read no catalog.

use chrono::{DateTime, Utc};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer};
use diesel::{Connection, QueryResult};

use super::precondition::Precondition;
use super::send::send;
use super::statement::SendSignal;
use super::types::{Signal, SignalKind};
use crate::error::Result;
use crate::session::{BackendPid, ColumnsOf, Driver, SyncDriver, query, run_ready};
use crate::views::{NAMELESS_ACTIVITY, PgActivity};

/// The session to which the command sends a signal.
#[derive(Clone, Debug)]
pub struct SignalTarget {
    /// The process id of the session.
    pub pid: i32,
    /// The start of the session, as far as this role may see it.
    pub backend_start: Option<DateTime<Utc>>,
    /// The processes of which it must still block one; empty if it need not block.
    pub waiters: Vec<i32>,
    /// True if it must not wait itself.
    pub must_be_root: bool,
}

impl SignalTarget {
    /// Signals the session, unless it has ended or the conditions no longer hold.
    ///
    /// Reads no catalog, unlike the queries that find sessions.
    pub fn send<C>(self, conn: &mut C, kind: SignalKind) -> Result<Signal>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let mut driver = SyncDriver(conn);
        let own = run_ready(driver.ask(BackendPid))?;
        let (pid, waiters) = (self.pid, self.waiters);
        let statement = SendSignal {
            kind,
            pid,
            backend_start: self.backend_start,
            precondition: match (waiters.is_empty(), self.must_be_root) {
                (true, _) => Precondition::None,
                (false, false) => Precondition::StillBlocks(waiters),
                (false, true) => Precondition::StillRootOf(waiters),
            },
            expiry: None,
            is_observed: false,
        };
        run_ready(send(&mut driver, statement, pid == own))
    }
}

/// Reads the activities of some sessions.
pub fn activities_without_names<C>(conn: &mut C, pids: &[i32]) -> Result<Vec<PgActivity>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = SyncDriver(conn);
    run_ready(driver.clear_stat_snapshot())?;
    let statement = NamelessActivities(pids.to_vec());
    let rows = driver.load::<_, ColumnsOf<PgActivity>, _>(statement);
    Ok(run_ready(rows)?)
}

#[derive(Debug)]
struct NamelessActivities(Vec<i32>);

query!(NamelessActivities => ColumnsOf<PgActivity>, PgActivity);

impl QueryFragment<Pg> for NamelessActivities {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(NAMELESS_ACTIVITY);
        out.push_sql(" FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.pid = ANY (");
        out.push_bind_param::<Array<Integer>, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}
